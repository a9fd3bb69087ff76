"""The drivers of one storm: started, killed, and asked how they ended."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.processes import descendants, kill

COMPLETE, FAILED, WITH_QUARANTINE = 0, 1, 3
FINISHED = (COMPLETE, WITH_QUARANTINE)


@dataclass
class Driver:
    """One `dr2e restore`. killed: by the storm."""

    process: subprocess.Popen[bytes]
    log: Path
    killed: bool = False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.killed = True
        kill(*descendants(self.process.pid))

    def complaint(self) -> str | None:
        """What is wrong with how it ended, if anything.

        Whatever befalls a run, its driver is to finish, or to say in a line that it failed and can be run again. So a
        usage error is wrong (the usage is right, and storage is never away for as long as the run is patient), and so
        is a code without that line: Python's own for an exception that nobody caught, or a signal that we did not send.
        A traceback alone tells nothing: Ray logs those of workers that a run survived.
        """
        code = self.process.wait()
        said = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("dr2e: ")]
        if self.killed or code in FINISHED or (code == FAILED and said):
            return None
        return f"a driver that nobody killed ended with {code}: {said[-1] if said else 'without a word'}"


def start(command: Sequence[str], tree: Path, environment: Mapping[str, str], log: Path) -> Driver:
    """Start one in the directory `tree`; log: takes what it says."""
    with log.open("wb") as file:
        return Driver(subprocess.Popen(command, cwd=tree, env=environment, stdout=file, stderr=file), log)
