"""The simulated run obeys what every queue obeys, forecasts follow from what was measured, and errors are one line."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pipeline.config import Config, ConfigError, build
from pipeline.ledger import COUNTS, CommitRecord, StoredObject
from pipeline.output import Status
from pipeline.profile import profile
from pipeline.resources import SHARDS_PER_WORKER, Node, sizes
from pipeline.simulation import estimate
from pipeline.simulation.cluster import Cluster
from pipeline.simulation.estimate import Forecast, Load, advise, forecast, pools_of
from pipeline.simulation.flow import QUEUE, Flow, Losses, Pool, simulate
from pipeline.simulation.rates import Rates
from pipeline.units import retry_id, unit_id

MEANS = {"read": 0.5, "detect": 2.0, "restore": 12.0, "enhance": 3.0, "write": 1.0}


def durations(count: int, seed: int = 0, **means: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {stage: rng.gamma(4.0, mean / 4, count) for stage, mean in {**MEANS, **means}.items()}


def pools(detect: int = 1, restore: int = 1, enhance: int = 1, commits: int = 2, readers: int = 2) -> list[Pool]:
    return [
        Pool("read", readers),
        Pool("detect", detect, 2),
        Pool("restore", restore, 3),
        Pool("enhance", enhance, 2),
        Pool("write", commits),
    ]


def most_at_once(flow: Flow, stage: str) -> int:
    """How many units of a stage are worked on at the same time."""
    begins, ends = np.sort(flow.begin[stage]), np.sort(flow.end[stage])
    return max(place + 1 - int(np.searchsorted(ends, begin, "right")) for place, begin in enumerate(begins))


def test_every_unit_passes_every_stage_once_in_turn_and_no_pool_does_more_than_it_can() -> None:
    work = durations(400)
    flow = simulate(work, shape := pools(restore=5, detect=2), parts=4, start=7.0)
    for pool in shape:
        np.testing.assert_allclose(flow.end[pool.stage] - flow.begin[pool.stage], work[pool.stage])
        assert most_at_once(flow, pool.stage) <= pool.workers
        assert flow.busy[pool.stage] == pytest.approx(work[pool.stage].sum())
    assert most_at_once(flow, "restore") == 5
    for before, after in pairwise(shape):
        # In order: none comes to the next stage before all those ahead of it are done here.
        assert (flow.begin[after.stage] >= np.maximum.accumulate(flow.end[before.stage])).all()
    assert min(flow.begin[stage].min() for stage in ("detect", "restore", "enhance")) >= 7.0


def test_a_unit_alone_takes_the_sum_of_its_stages_and_one_worker_the_sum_of_its_units() -> None:
    one = durations(1)
    assert simulate(one, pools(4, 4, 4)).seconds == pytest.approx(sum(float(work[0]) for work in one.values()))
    many = durations(50, read=0, detect=0, enhance=0, write=0)
    assert simulate(many, pools(), start=10).seconds == pytest.approx(10 + many["restore"].sum())


@pytest.mark.parametrize(("detect", "restore", "enhance", "commits"), [(1, 3, 1, 2), (1, 16, 4, 4), (4, 16, 1, 1)])
def test_in_the_long_run_the_slowest_pool_sets_the_pace(detect: int, restore: int, enhance: int, commits: int) -> None:
    work = durations(4000)
    shape = pools(detect, restore, enhance, commits)
    flow = simulate(work, shape, parts=4)
    bound = max(work[pool.stage].sum() / pool.workers for pool in shape)
    assert bound <= flow.seconds < 1.03 * bound


def test_more_workers_are_never_slower() -> None:
    work = durations(300)
    taken = [simulate(work, pools(4, count, 4), parts=4).seconds for count in (1, 2, 3, 5, 8, 13, 21)]
    # A unit waits for the worker it was bound to, so that the last one may come later by as much as it takes itself.
    assert all(later <= before + work["restore"].max() for before, later in pairwise(taken))
    assert taken[2] < 0.4 * taken[0]


def test_a_slow_stage_stops_those_before_it() -> None:
    flow = simulate(durations(300, enhance=60), shape := pools(restore=4), parts=4)
    waiting = [int((flow.begin["restore"] < begin).sum()) - place for place, begin in enumerate(flow.begin["enhance"])]
    assert 12 < max(waiting) <= shape[2].slots + (QUEUE + 1) * shape[3].slots
    assert flow.begin["read"][-1] > 0.5 * flow.seconds


def test_lost_machines_cost_the_unit_and_the_time_until_they_are_back() -> None:
    work, rng = durations(300), np.random.default_rng
    calm = simulate(work, pools(restore=4), rng=rng(1))
    stormy = simulate(work, pools(restore=4), losses=Losses(4, 60), rng=rng(1))
    assert stormy.lost > 3 and calm.lost == 0
    assert calm.seconds < stormy.seconds
    assert stormy.busy["restore"] > calm.busy["restore"]
    again = simulate(work, pools(restore=4), losses=Losses(4, 60), rng=rng(1))
    assert again.seconds == stormy.seconds
    # A worker that is lost and back at once loses the unit alone: half of one on average.
    brief = simulate(work, pools(), losses=Losses(20, 0), rng=rng(2))
    assert brief.busy["restore"] == pytest.approx(work["restore"].sum() + 6 * brief.lost, rel=0.1)


def record(number: int, *, parts: int = 4, seconds: dict[str, float] | None = None, photos: int = 8) -> CommitRecord:
    """Of the `number`-th unit: the more of its eight photos have a face the longer it took."""
    faces = number % 5 + 4
    shard, part = f"{number // parts:03d}.tar", number % parts
    spent = {"read": 0.1, "detect": 0.8, "restore": 1.0 * faces, "enhance": 0.2 * faces, "write": 0.4}
    return CommitRecord(
        unit=unit_id(shard, part, parts),
        attempt="0badcafe",
        shard=shard,
        shard_bytes=8_000_000,
        shard_etag="e",
        part=part,
        parts=parts,
        objects=(StoredObject(f"shards/{number}.tar", 3_000_000, "00"),),
        counts={**dict.fromkeys(COUNTS, 0), "photos": photos, "faces": faces},
        errors={},
        models={},
        seconds=spent if seconds is None else seconds,
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:00:09+00:00",
    )


@pytest.fixture(scope="module")
def rates() -> Rates:
    return Rates.of(map(record, range(40)), "measured")


def config(**resources: object) -> Config:
    return build({"input": "in", "output": "out", "resources": resources})


def told(photos: int, rates: Rates, cluster: str = "nodes=4,cpus=8,gpus=1,load=5", **resources: object) -> Forecast:
    return forecast(photos, Cluster.parse(cluster), rates, config(**resources))


def test_rates_are_those_of_the_records(rates: Rates) -> None:
    assert rates.units == 40 and rates.parts == 4
    assert rates.seconds["restore"].mean() == pytest.approx(6) and rates.faces.mean() == pytest.approx(6)
    assert (rates.bytes_in == 2_000_000).all() and (rates.bytes_out == 3_000_000).all()
    assert 0 < rates.error("restore") < 0.1 < Rates.of(map(record, range(5)), "few").error("restore")
    again = replace(record(3), unit=retry_id(record(3).unit, 1))
    assert Rates.of([*map(record, range(40)), again], "with a retry").units == 40
    for empty in ([], [record(0, photos=0)], [again]):
        with pytest.raises(ConfigError, match=r"somewhere: no unit is committed .* --rates"):
            Rates.of(empty, "somewhere")
    with pytest.raises(ConfigError, match=r"it: its records have no seconds of detect, restore, enhance"):
        told(8, Rates.of([record(0, seconds={"target": 1.0})], "it"))


def test_a_forecast_follows_from_what_was_measured(rates: Rates) -> None:
    found = told(80_000, rates, "nodes=4,cpus=8,gpus=1,gpu-price=2,cpu-price=0.1")
    assert found.units == 10_000 and found.faces == 60_000
    assert found.bytes_read == 80_000 * 250_000 and found.bytes_written == 80_000 * 375_000
    assert found.slowest == "restore" and found.seconds == pytest.approx(10_000 * 6 / 4, rel=0.05)
    assert found.gpu_hours == pytest.approx(4 * found.seconds / 3600)
    assert found.cost == pytest.approx(2 * found.gpu_hours + 0.1 * found.cpu_hours)
    assert found.cpu_hours == pytest.approx(8 * found.gpu_hours)
    busy = {load.stage: load.busy for load in found.loads}
    assert 0.9 < busy["restore"] <= 1 and busy["enhance"] == pytest.approx(0.2 * busy["restore"], rel=0.1)
    assert "more GPUs" in found.advice
    assert told(80_000, rates).cost is None
    assert told(80_000, rates, "nodes=4,cpus=8,gpus=1,restore-speed=3").seconds < 0.4 * found.seconds


def test_the_same_seed_foretells_the_same_and_another_does_not(rates: Rates) -> None:
    spot = "nodes=4,cpus=8,gpus=1,losses=1,seed="
    assert told(20_000, rates, f"{spot}1") == told(20_000, rates, f"{spot}1") != told(20_000, rates, f"{spot}2")
    assert told(20_000, rates, f"{spot}1").lost > 0


@pytest.mark.parametrize("at_once", [25, 10_000])  # many executions of the graph, and one that is itself too long
def test_what_is_extrapolated_agrees_with_what_is_simulated(
    rates: Rates, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = told(40_000, rates, shards_at_once=at_once)
    assert whole.simulated == whole.units == 5000
    assert whole.executions == (50 if at_once == 25 else 1)
    monkeypatch.setattr(estimate, "MOST_UNITS", 500)
    part = told(40_000, rates, shards_at_once=at_once)
    assert part.simulated <= 600
    assert part.seconds == pytest.approx(whole.seconds, rel=0.03)
    for one, other in zip(part.loads, whole.loads, strict=True):
        assert one.busy == pytest.approx(other.busy, rel=0.06, abs=0.003)


def test_units_and_shards_may_be_larger_than_the_measured_ones(rates: Rates) -> None:
    small = told(40_000, rates)
    large = told(40_000, rates, "nodes=4,cpus=8,gpus=1,load=5,unit-photos=32,shard-photos=1000", shards_at_once=20)
    assert (small.units, large.units, large.executions) == (5000, 1250, 3)  # 20 shards of 31 units at a time
    assert large.seconds == pytest.approx(small.seconds, rel=0.06)


def test_a_hundred_million_photos_are_foretold_at_once(rates: Rates) -> None:
    found = told(100_000_000, rates, "nodes=64,cpus=8,gpus=1")
    assert found.units == 12_500_000 and found.simulated <= estimate.MOST_UNITS
    assert found.executions == math.ceil(found.units / (64 * SHARDS_PER_WORKER * rates.parts))
    assert "shards_at_once" in found.advice  # a graph of 20 small units for each of 64 GPUs runs empty too often


def test_the_pools_are_as_wide_as_a_run_would_make_them() -> None:
    settings = config(restore={"workers": 6})
    found = pools_of(sizes(settings.resources, [Node(16, 2), Node(16, 2)]), settings, 32)
    assert [(pool.stage, pool.workers, pool.holds) for pool in found[1:4]] == [
        ("detect", 4, 2),
        ("restore", 6, 3),  # it works on two units, and one waits
        ("enhance", 4, 2),
    ]
    laptop = pools_of(sizes(settings.resources, [Node(2, 0)]), settings, 2)
    assert (laptop[0].workers, laptop[-1].workers) == (1, 1)


def test_stages_that_share_a_pool_hold_its_cpus_once() -> None:
    usual = config()
    larger = usual.model_copy(update={"write": usual.write.model_copy(update={"upscale": 2, "upscaler": "x2.pth"})})
    widths = sizes(usual.resources, [Node(8, 1)])
    pools = {pool.stage: pool.workers for pool in pools_of(widths, larger, 8)}
    assert pools.pop("enlarge") == 1
    assert pools == {pool.stage: pool.workers for pool in pools_of(widths, usual, 8)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes=8", "cpus is missing"),
        ("nodes=8,cpus=4,gpu=1", "there is no gpu; there are nodes, cpus, gpus, "),
        ("nodes=8,cpus=many", "cpus: "),
        ("nodes=0,cpus=4", "nodes: "),
        ("8 nodes", "write it as nodes=8,cpus=16,gpus=1"),
        ("nodes=8,cpus=4,cpu-node-cpus=2", "cpu-node-cpus needs cpu-nodes"),
        ("nodes=8,cpus=4,gpu-price=-1", "gpu-price: "),
        ("nodes=8,cpus=4,start=inf", "start: "),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Cluster.parse(text)
    assert said in str(error.value) and str(error.value).startswith(f"--simulate {text}: ")
    assert "\n" not in str(error.value)


def test_a_profile_says_what_dominates_and_how_far_more_workers_help() -> None:
    counts = {**dict.fromkeys(COUNTS, 0), "photos": 200, "faces": 100}
    spent = {"restore": 400.0, "detect": 100.0, "write": 0.0}
    found = profile(Status(2, 0, 1, counts, {}, spent, 0, None, None))
    assert found.dominating == "restore" and [cost.stage for cost in found.stages] == ["restore", "detect"]
    first = found.stages[0]
    assert (first.per_photo, first.per_face, first.share) == (2.0, 4.0, 0.8)
    assert "restore takes 80% of all work" in found.advice and "4.0 times as many as detect" in found.advice
    nothing = profile(Status(0, 0, 0, dict.fromkeys(COUNTS, 0), {}, {}, 0, None, None))
    assert nothing.dominating is None and "restore a few units first" in nothing.advice
    even = profile(Status(1, 0, 1, counts, {}, {"restore": 10.0, "write": 9.9}, 0, None, None))
    assert "more workers of both" in even.advice


def test_advice_names_what_to_change() -> None:
    def said(busy: dict[str, float], device: str = "cuda", waiting: float = 0.0, executions: int = 1) -> str:
        loads = [Load(stage, 4, share) for stage, share in busy.items()]
        return advise(loads, max(busy, key=lambda stage: busy[stage]), device, waiting, executions)

    assert (
        said({"detect": 0.2, "restore": 0.98}) == "restore is busy 98%, detect 20%: more GPUs, up to 4.9 times as many"
    )
    assert "more machines" in said({"detect": 0.2, "restore": 0.98}, device="cpu")
    assert "more CPUs (cpu-nodes=)" in said({"restore": 0.6, "write": 0.99})
    assert "fewer machines cost less" in said({"detect": 0.1, "restore": 0.5})
    assert "starting takes 30%" in said({"detect": 0.1, "restore": 0.5}, waiting=0.3)
    assert "shards_at_once, for the graph starts and runs empty 40 times" in said(
        {"detect": 0.1, "restore": 0.5}, executions=40
    )
