"""A Ray cluster whose machines are simulated on this one: real raylets, real workers, each machine with its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from servers import free_ports

from faults.processes import descendants, kill, title

# Ray notices a dead machine by its silence, which takes half a minute with the settings it comes with.
_ATTENTIVE = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}


@contextmanager
def environ(changes: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with `changes`, for what is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _taking_jobs(port: int) -> dict[str, int]:
    """What a head needs for it. The agent that starts them does not come up where another cluster's has its port."""
    return {"dashboard_port": port, "dashboard_agent_listen_port": free_ports(1)[0]}


class Machines:
    """A head without workers, and `count` machines of two CPUs each."""

    def __init__(self, count: int, environment: Mapping[str, str], dashboard_port: int | None = None) -> None:
        """environment: of every process on the cluster, on top of this one's; credentials, for example. dashboard_port:
        where the head takes jobs; without one it takes none."""
        from ray.cluster_utils import Cluster

        self.environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **environment}
        with environ(self.environment):
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0,
                    "include_dashboard": dashboard_port is not None,
                    **(_taking_jobs(dashboard_port) if dashboard_port is not None else {}),
                    "_system_config": _ATTENTIVE,
                },
            )
        self._nodes: list[Any] = []
        self._added = 0
        for _ in range(count):
            self.add()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def session(self) -> str:
        """The folder of Ray's session: logs, and per machine what jobs brought along."""
        return str(self._cluster.head_node.get_session_dir_path())

    @property
    def raylets(self) -> list[int]:
        """The process of each machine that is left, in the order they were added."""
        return [info.process.pid for node in self._nodes for info in node.all_processes["raylet"]]

    def add(self) -> None:
        """Another machine."""
        self._added += 1
        apart = f"runtime_resources_{self._added}"  # real machines do not unpack packages into one folder
        with environ(self.environment):
            self._nodes.append(self._cluster.add_node(num_cpus=2, runtime_env_dir_name=apart))

    def kill_machine(self, place: int) -> bool:
        """The `place`-th machine (counted around) loses power: all its processes are killed at once."""
        if not self._nodes:
            return False
        node = self._nodes.pop(place % len(self._nodes))
        kill(*(pid for info in node.all_processes["raylet"] for pid in descendants(info.process.pid)))
        with suppress(Exception):  # what Ray says of a node that is dead already
            self._cluster.remove_node(node, allow_graceful=False)
        return True

    def kill_worker(self, name: str) -> bool:
        """Kill one worker whose title holds `name`; False when there is none now."""
        for node in self._nodes:
            for info in node.all_processes["raylet"]:
                for pid in descendants(info.process.pid):
                    if name in title(pid):
                        kill(pid)
                        return True
        return False

    def close(self) -> None:
        self._cluster.shutdown()
