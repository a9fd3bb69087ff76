"""What a collection would take on a cluster: wall time, hours, bytes and cost, from measured units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import Config, ConfigError
from pipeline.product import product_of
from pipeline.resources import Sizes, shards_at_once, sizes
from pipeline.simulation.cluster import Cluster
from pipeline.simulation.flow import Flow, Losses, Pool, simulate
from pipeline.simulation.rates import COMMIT, READ, Rates

MOST_UNITS = 20_000
"""Units that are simulated; a collection has more, and goes on as these did."""

BUSY = 0.9
"""From this share of its time on, a pool is what holds the others up."""

MOST_TRIES = 1000.0
"""Of a unit, on average: with more its machine goes away before it is done, again and again."""


@dataclass(frozen=True)
class Load:
    """A pool in a simulation. busy: the share of all its workers' time that they work."""

    stage: str
    workers: int
    busy: float


@dataclass(frozen=True)
class Forecast:
    """What a collection would take.

    seconds: of wall time, start-up included. error: half of a 95 % confidence interval of it as a share, as far as it
    comes from having measured few units. executions: of the graph (`resources.shards_at_once`). gpu_hours, cpu_hours:
    of the cluster, which is paid for whether it works or not; gpu_hours_busy: of those in which somebody works, each
    worker for the part of a GPU that it reserves. cost: None without a price. loads: in the order of the
    graph; slowest: the stage of the busiest. lost: units that were done anew because their machine went away.
    simulated: units that were simulated; the others are extrapolated.
    """

    photos: int
    faces: int
    units: int
    seconds: float
    error: float
    executions: int
    gpu_hours: float
    cpu_hours: float
    gpu_hours_busy: float
    bytes_read: int
    bytes_written: int
    cost: float | None
    loads: tuple[Load, ...]
    slowest: str
    lost: int
    simulated: int
    advice: str


def forecast(photos: int, cluster: Cluster, rates: Rates, config: Config) -> Forecast:
    """Simulate a run of `config` over `photos` photos, at least 1, like those that `rates` were measured on.

    Raises ConfigError where the rates are of another product, or the cluster lacks what `config.resources` ask for.
    """
    stages = [(stage.name, pool) for stage, pool in product_of(config).stages]
    rates.require([name for name, _ in stages])
    machines = cluster.machines()
    widths = sizes(config.resources, machines)
    pools = pools_of(widths, config, sum(machine.cpus for machine in machines))
    speeds = {name: cluster.speed(pool) for name, pool in stages}
    photos_of_unit = float(rates.photos.mean())
    merged = round((cluster.unit_photos or photos_of_unit) / photos_of_unit)
    if merged < 1:
        raise ConfigError(
            f"unit-photos: units of {photos_of_unit:.0f} photos were measured, and of smaller ones they tell nothing; "
            "restore some with a smaller unit.max_samples"
        )
    photos_of_shard = cluster.shard_photos or rates.parts * photos_of_unit
    photos_of_unit *= merged
    units = max(1, math.ceil(photos / photos_of_unit))
    parts = max(1, round(photos_of_shard / photos_of_unit))
    _require_end(cluster, rates, speeds, merged)
    whole = _Whole(cluster, rates, pools, speeds, parts, merged)
    seconds, executions = whole.run(units, shards_at_once(config.resources, widths.restore.workers) * parts)
    seconds += cluster.start

    loads = tuple(Load(pool.stage, pool.workers, whole.busy[pool.stage] / pool.workers / seconds) for pool in pools)
    slowest = max(loads, key=lambda load: load.busy).stage
    gpus, cpus = cluster.nodes * cluster.gpus, int(sum(machine.cpus for machine in machines))
    hours = seconds / 3600
    priced = [(gpus, cluster.gpu_price), (cpus, cluster.cpu_price)]
    prices = [count * hours * price for count, price in priced if price is not None]
    return Forecast(
        photos=photos,
        faces=round(photos * rates.faces.sum() / rates.photos.sum()),
        units=units,
        seconds=seconds,
        error=rates.error(slowest),
        executions=executions,
        gpu_hours=gpus * hours,
        cpu_hours=cpus * hours,
        gpu_hours_busy=_gpu_seconds(whole, widths, stages) / 3600,
        bytes_read=round(photos * rates.bytes_in.sum() / rates.photos.sum()),
        bytes_written=round(photos * rates.bytes_out.sum() / rates.photos.sum()),
        cost=sum(prices) if prices else None,
        loads=loads,
        slowest=slowest,
        lost=round(whole.lost),
        simulated=whole.simulated,
        advice=advise(loads, slowest, widths.device, whole.waiting_to_start / seconds, executions),
    )


def _require_end(cluster: Cluster, rates: Rates, speeds: Mapping[str, float], merged: int) -> None:
    """Raises ConfigError when machines go away too fast for a unit: it takes e ** (its time x losses) tries."""
    longest = max(float(rates.seconds[stage].max()) * merged / speed for stage, speed in speeds.items())
    if longest * cluster.losses / 3600 > math.log(MOST_TRIES):
        raise ConfigError(
            f"losses: a unit takes up to {longest / 3600:.1f} hours, and would not be done before its machine goes; "
            "smaller units, or fewer losses"
        )


def pools_of(widths: Sizes, config: Config, cpus: float) -> list[Pool]:
    """The pools of the graph on a cluster of so many CPUs.

    What the actors leave is for committing, but for one task that reads; no more tasks of either at a time than CPUs. A
    worker of several units at once works on them in turns, and one more waits.
    """
    actors = [(stage, getattr(widths, pool)) for stage, pool in product_of(config).stages]
    resources = config.resources
    held = (getattr(widths, pool) for pool in {pool for _, pool in product_of(config).stages})  # stages share a pool's
    room = max(0.0, cpus - sum(size.workers * size.cpus for size in held))
    readers = max(1, min(int(room / 2 / resources.read_cpus), int(cpus)))
    commits = max(1, min(int((room - resources.read_cpus) / resources.commit_cpus), int(cpus)))
    return [
        Pool(READ, readers),
        *(Pool(stage.name, size.workers, stage.units(config) + 1) for stage, size in actors),
        Pool(COMMIT, commits),
    ]


class _Whole:
    """All executions of the graph, of which as many are simulated as MOST_UNITS allows. busy: seconds by stage."""

    def __init__(
        self, cluster: Cluster, rates: Rates, pools: Sequence[Pool], speeds: dict[str, float], parts: int, merged: int
    ) -> None:
        """parts: units of a shard. merged: measured units that make one."""
        self.cluster, self.rates, self.pools, self.speeds = cluster, rates, pools, speeds
        self.parts, self.merged = parts, merged
        self.rng = np.random.default_rng(cluster.seed)
        self.busy = dict.fromkeys((pool.stage for pool in pools), 0.0)
        self.lost = self.waiting_to_start = 0.0
        self.simulated = 0

    def run(self, units: int, at_once: int) -> tuple[float, int]:
        """Seconds and executions of `units` units, `at_once` in an execution."""
        executions = math.ceil(units / at_once)
        full, rest = divmod(units, at_once)
        seconds = self._one(rest) if rest else 0.0
        tried = min(full, max(1, MOST_UNITS // at_once))
        for _ in range(tried):
            seconds += self._one(at_once, full / tried)
        self.waiting_to_start = self.cluster.start + executions * self.cluster.load
        return seconds, executions

    def _one(self, units: int, times: float = 1.0) -> float:
        """Seconds of `times` executions like one of `units` units."""
        count = min(units, MOST_UNITS)
        flow = self._flow(count)
        self.simulated += count
        seconds, more = flow.seconds, units / count
        if count < units:  # it goes on as in the second half of what was simulated
            half = count // 2
            commits = flow.commits
            seconds += (units - count) * float(commits[-1] - commits[half - 1]) / (count - half)
        for stage, busy in flow.busy.items():
            self.busy[stage] += busy * more * times
        self.lost += flow.lost * more * times
        return seconds * times

    def _flow(self, count: int) -> Flow:
        places = self.rates.draw(count * self.merged, self.rng).reshape(count, self.merged)
        durations = {
            pool.stage: self.rates.seconds[pool.stage][places].sum(axis=1) / self.speeds.get(pool.stage, 1.0)
            for pool in self.pools
        }
        losses = Losses(self.cluster.losses, self.cluster.back)
        return simulate(durations, self.pools, parts=self.parts, start=self.cluster.load, losses=losses, rng=self.rng)


def _gpu_seconds(whole: _Whole, widths: Sizes, stages: Sequence[tuple[str, str]]) -> float:
    """GPU seconds that somebody works in, as the share of a GPU that each worker reserves: of its pool's, where stages
    share one, its part."""
    sharing = Counter(pool for _, pool in stages)
    return sum(whole.busy[name] * getattr(widths, pool).gpus / sharing[pool] for name, pool in stages)


def advise(loads: Sequence[Load], slowest: str, device: str, waiting: float, executions: int = 1) -> str:
    """What to change, in one line. waiting: the share of the time in which no worker has its model yet."""
    busiest = next(load for load in loads if load.stage == slowest)
    others = sorted((load for load in loads if load.stage != slowest), key=lambda load: -load.busy)
    told = f"{slowest} is busy {busiest.busy:.0%}, {others[0].stage} {others[0].busy:.0%}"
    longer = f"a larger resources.shards_at_once, for the graph starts and runs empty {executions} times"
    if busiest.busy < BUSY and executions > 1:
        return f"{told}: {longer}"
    if waiting > 1 - BUSY:
        return f"{told}; starting takes {waiting:.0%} of the time: fewer machines cost less"
    if busiest.busy < BUSY:
        return f"{told}: too little work for so many workers; fewer machines cost less, smaller units keep them busier"
    remedies = {READ: "more CPUs, or storage that reads faster", COMMIT: "more CPUs (cpu-nodes=)"}
    more = remedies.get(slowest, "more GPUs" if device == "cuda" else "more machines")
    if slowest in remedies or others[0].busy > BUSY:
        return f"{told}: {more}"
    return f"{told}: {more}, up to {busiest.busy / max(others[0].busy, 0.01):.1f} times as many"
