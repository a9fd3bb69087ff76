"""Machines that take jobs over HTTP and ask for a token, in a process of their own: Ray reads its token once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from servers import free_ports

from faults.machines import Machines

TESTS = Path(__file__).parents[1]
_ATTEMPTS = 3


@dataclass
class Served:
    """url: of the dashboard. session: folder of Ray's session. raylets: the process of each machine but the head."""

    process: subprocess.Popen[str]
    url: str
    session: Path
    raylets: list[int]

    def close(self) -> None:
        """End the cluster."""
        self.process.communicate(timeout=240)


def serve(count: int, token: str, environment: Mapping[str, str], log: Path) -> Served:
    """A head and `count` machines. environment: of every process on them, on top of this one's. log: what they say.

    Ray gives its processes half a minute to start, which on a busy machine is too little; so it is tried again.
    """
    for _ in range(_ATTEMPTS):
        if (found := _serve(count, token, environment, log)) is not None:
            return found
    raise RuntimeError(f"no cluster: {log.read_text(errors='replace')[-2000:]}")


def _serve(count: int, token: str, environment: Mapping[str, str], log: Path) -> Served | None:
    told = {**os.environ, **environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "COUNT": str(count)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "faults.served"],
            cwd=TESTS, env=told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            answer = json.loads(line)
            return Served(process, answer["url"], Path(answer["session"]), answer["raylets"])
    process.wait()
    return None


def main() -> None:
    """Start the machines that the environment asks for; end them when standard input does."""
    (port,) = free_ports(1)
    machines = Machines(int(os.environ["COUNT"]), {"RAY_AUTH_MODE": "token"}, dashboard_port=port)
    try:
        answer = {"url": f"http://127.0.0.1:{port}", "session": machines.session, "raylets": machines.raylets}
        print(json.dumps(answer), flush=True)
        sys.stdin.read()
    finally:
        machines.close()


if __name__ == "__main__":
    main()
