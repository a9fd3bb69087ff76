"""How wide a run works: as wide as the cluster is, settled anew whenever the graph begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.config import ConfigError, Resources
from pipeline.resources import Node, Sizes, sizes
from pipeline.session import ClusterError


class Width:
    """sizes: of the pools; commits: how many are under way at a time, at most."""

    sizes: Sizes
    commits: int

    def __init__(self, resources: Resources, nodes: Callable[[], Sequence[Node]]) -> None:
        """nodes: the machines that are there now. Raises ClusterError, ConfigError."""
        self._resources, self._nodes = resources, nodes
        self._settle(nodes())

    def settle(self) -> None:
        """Count on machines that came, and not on those that went.

        Where there is none for the moment, or they would make another device of "auto", all stays as it was: Ray waits
        for machines, and what a run makes must not depend on which of them were there. So threads stay as they were,
        for a CPU's convolutions round by their number.
        """
        before, commits = self.sizes, self.commits
        try:
            self._settle(self._nodes())
        except (ClusterError, ConfigError):
            return
        if self.sizes.device != before.device:
            self.sizes, self.commits = before, commits
        pools = ("detect", "restore", "enhance")
        threads = {pool: replace(getattr(self.sizes, pool), threads=getattr(before, pool).threads) for pool in pools}
        self.sizes = replace(self.sizes, **threads)

    def _settle(self, nodes: Sequence[Node]) -> None:
        self.sizes = sizes(self._resources, nodes)
        self.commits = int(sum(node.cpus for node in nodes) / self._resources.commit_cpus)
