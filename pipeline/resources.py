"""How wide a run works: the numbers that ``resources`` leaves to the machines it finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.config import ConfigError, Pool, Resources

SHARDS, SHARDS_PER_WORKER = 250, 5
"""Of an execution of the graph: at least, and for each actor of restore."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster, by what Ray may use of it."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class PoolSize:
    """A stage's actors: how many, what each reserves, and its torch threads."""

    workers: int
    cpus: float
    gpus: float
    threads: int


@dataclass(frozen=True)
class Sizes:
    """device: "cpu" or "cuda", the same for every stage."""

    device: str
    detect: PoolSize
    restore: PoolSize
    enhance: PoolSize


def sizes(resources: Resources, nodes: Sequence[Node]) -> Sizes:
    """Settle every "auto" for these machines, leaving CPUs to read and commit with.

    Raises ConfigError when cuda is asked for and there is none.
    """
    has_gpu = any(node.gpus >= 1 for node in nodes)
    if resources.device == "cuda" and not has_gpu:
        raise ConfigError("resources.device: cuda was asked for, but Ray sees no GPU; use auto or cpu")
    device = "cuda" if has_gpu and resources.device != "cpu" else "cpu"
    pools = [_pool(pool, device, nodes) for pool in (resources.detect, resources.restore, resources.enhance)]
    # Actors hold their CPUs for good: if they held all, nothing would be read or committed, ever.
    room = sum(node.cpus for node in nodes) - resources.read_cpus - resources.commit_cpus
    reserved = sum(pool.workers * pool.cpus for pool in pools)
    share = min(1.0, max(room, 0.0) / reserved) if reserved else 1.0
    return Sizes(device, *(replace(pool, cpus=math.floor(pool.cpus * share * 100) / 100) for pool in pools))


def shards_at_once(resources: Resources, workers: int) -> int:
    """Shards of one execution of the graph, for so many actors of restore: a graph runs empty at its end, and each
    actor should have many units before that (figures in docs/scale.md)."""
    wanted = resources.shards_at_once
    return wanted if isinstance(wanted, int) else max(SHARDS, SHARDS_PER_WORKER * workers)


def _pool(pool: Pool, device: str, nodes: Sequence[Node]) -> PoolSize:
    places = sum(int(node.gpus) if device == "cuda" else node.cpus >= 1 for node in nodes)
    workers = pool.workers if isinstance(pool.workers, int) else max(1, places)
    cpus_per_worker = sum(node.cpus for node in nodes) / workers
    widest = max(node.cpus for node in nodes)
    threads = pool.threads if isinstance(pool.threads, int) else max(1, int(min(cpus_per_worker, widest)))
    return PoolSize(workers, pool.cpus, pool.gpus if device == "cuda" else 0.0, threads)
