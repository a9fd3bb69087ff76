"""A run as a discrete-event simulation: units with drawn durations go through pools of workers, in their order.

As in the graph, a unit is bound to the worker that has least to do and waits there, even if another is free before;
what a stage has done leaves it in the order it came in; and a stage stops when the queue of the next one is full.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.rates import COMMIT, READ

Times = NDArray[np.float64]

QUEUE = 2
"""Units that wait before a stage, for each one its workers may hold."""


@dataclass(frozen=True)
class Pool:
    """Workers of a stage. holds: units that a worker has at a time, the one it works on among them."""

    stage: str
    workers: int
    holds: int = 1

    @property
    def slots(self) -> int:
        """Units in the hands of all its workers."""
        return self.workers * self.holds


@dataclass(frozen=True)
class Losses:
    """Machines that go away. per_hour: times per worker and hour; back: seconds until another stands in. The unit that
    was worked on is done anew from the start of that stage."""

    per_hour: float = 0.0
    back: float = 300.0


@dataclass(frozen=True)
class Flow:
    """What came of some units. begin, end: by stage, (U,) float64 seconds; worker: that did it, (U,), of all stages but
    READ. busy: seconds of all workers of a stage,
    those of lost work too. lost: how often some was."""

    begin: Mapping[str, Times]
    end: Mapping[str, Times]
    worker: Mapping[str, NDArray[np.int64]]
    busy: Mapping[str, float]
    lost: int

    @property
    def commits(self) -> Times:
        """When each unit was committed, rising."""
        return np.sort(self.end[COMMIT])

    @property
    def seconds(self) -> float:
        return float(self.commits[-1])


def simulate(
    durations: Mapping[str, Times],
    pools: Sequence[Pool],
    *,
    parts: int = 1,
    start: float = 0.0,
    losses: Losses | None = None,
    rng: np.random.Generator | None = None,
) -> Flow:
    """Units through `pools`, which begin with READ and end with COMMIT.

    durations: by stage, (U,) seconds, the units in their order. parts: units of a shard, which one reader reads in
    turn. start: seconds until the workers between READ and COMMIT are there. losses: of those, drawn from `rng`.
    """
    count = len(durations[COMMIT])
    if not count:
        raise ValueError("nothing to simulate: there is no unit")
    rng = rng or np.random.default_rng(0)
    seconds = [np.asarray(durations[pool.stage], float).tolist() for pool in pools]
    readers = _Readers(pools[0].workers, parts)
    workers = [
        _Workers(pool, 0.0 if pool.stage == COMMIT else start, None if pool.stage == COMMIT else losses, rng)
        for pool in pools[1:]
    ]
    # Units that a stage has and the next has not taken: in the hands of its workers, and in the queue behind it.
    rooms = [pool.slots + QUEUE * after.slots for pool, after in pairwise(pools)]
    bound: list[list[float]] = [[] for _ in pools]  # when a unit came to a worker, which made room in the queue
    begin: list[list[float]] = [[] for _ in pools]
    end: list[list[float]] = [[] for _ in pools]
    by: list[list[int]] = [[] for _ in pools]
    for unit in range(count):
        left = 0.0  # when the unit left the stage before
        for place in range(len(pools)):
            full = 0.0
            if place < len(rooms) and unit >= rooms[place]:
                full = bound[place + 1][unit - rooms[place]]
            ready = max(left, full)
            if place == 0:
                began, ended = readers.read(unit, ready, seconds[0][unit])
                bound[0].append(began)
            else:
                worker, taken, began, ended = workers[place - 1].work(ready, seconds[place][unit])
                by[place].append(worker)
                bound[place].append(taken)
            begin[place].append(began)
            end[place].append(ended)
            left = max(left, ended, workers[place - 1].released if place else readers.released)
            if place:
                workers[place - 1].released = left
            else:
                readers.released = left
    names = [pool.stage for pool in pools]
    busy = {READ: float(sum(seconds[0]))} | {one.stage: one.busy for one in workers}
    return Flow(
        dict(zip(names, map(np.array, begin), strict=True)),
        dict(zip(names, map(np.array, end), strict=True)),
        dict(zip(names[1:], map(np.array, by[1:]), strict=True)),
        busy,
        sum(one.lost for one in workers),
    )


class _Readers:
    """Tasks that read a shard each, unit by unit."""

    def __init__(self, count: int, parts: int) -> None:
        self._free, self._parts = [0.0] * count, parts
        self._at = self.released = 0.0

    def read(self, unit: int, ready: float, seconds: float) -> tuple[float, float]:
        """When reading it begins and ends."""
        if unit % self._parts == 0:
            if unit:
                heapq.heappush(self._free, self._at)
            self._at = heapq.heappop(self._free)
        began = max(self._at, ready)
        self._at = began + seconds
        return began, self._at


class _Workers:
    """The workers of a stage. released: when the latest unit left the stage, in order."""

    def __init__(self, pool: Pool, start: float, losses: Losses | None, rng: np.random.Generator) -> None:
        self.stage, self._holds, self._losses, self._rng = pool.stage, pool.holds, losses, rng
        self._held: list[deque[float]] = [deque() for _ in range(pool.workers)]  # when each unit of a worker is done
        self._done: list[tuple[float, int]] = []  # the same of all workers, the next first
        self._free = [start] * pool.workers
        self._idlest = [(0, worker) for worker in range(pool.workers)]  # (units held, worker), some out of date
        self._dies = [self._lifetime() for _ in range(pool.workers)]
        self.busy = self.released = 0.0
        self.lost = 0

    def work(self, ready: float, seconds: float) -> tuple[int, float, float, float]:
        """Which worker a unit comes to that is there at `ready`, when, and when work on it begins and ends there."""
        self._let_go(ready)
        while (worker := self._one_with_room()) is None:
            ready = max(ready, self._done[0][0])
            self._let_go(ready)
        begin = max(ready, self._free[worker])
        end = self._through(worker, begin, seconds)
        self._free[worker] = end
        self._held[worker].append(end)
        heapq.heappush(self._done, (end, worker))
        heapq.heappush(self._idlest, (len(self._held[worker]), worker))
        return worker, ready, begin, end

    def _let_go(self, now: float) -> None:
        """Forget what is done by `now`."""
        while self._done and self._done[0][0] <= now:
            _, worker = heapq.heappop(self._done)
            self._held[worker].popleft()
            heapq.heappush(self._idlest, (len(self._held[worker]), worker))

    def _one_with_room(self) -> int | None:
        """The worker that holds the fewest units, if it may hold one more."""
        while True:
            held, worker = self._idlest[0]
            if held == len(self._held[worker]):
                break
            heapq.heappop(self._idlest)
        if held >= self._holds:
            return None
        heapq.heappop(self._idlest)
        return worker

    def _through(self, worker: int, begin: float, seconds: float) -> float:
        """When the work ends that begins now, done anew whenever its machine goes away."""
        if self._losses is None or not self._losses.per_hour:
            self.busy += seconds
            return begin + seconds
        while True:
            dies = self._dies[worker]
            if dies <= begin:  # it went while it had nothing to do
                begin = max(begin, dies + self._losses.back)
            elif dies < begin + seconds:
                self.busy += dies - begin
                self.lost += 1
                begin = dies + self._losses.back
            else:
                self.busy += seconds
                return begin + seconds
            self._dies[worker] = dies + self._losses.back + self._lifetime()

    def _lifetime(self) -> float:
        if self._losses is None or not self._losses.per_hour:
            return float("inf")
        return float(self._rng.exponential(3600 / self._losses.per_hour))
