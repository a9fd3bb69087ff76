"""`dr2e bench`: the ways it compares do the same thing, and its ratios follow from its times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from small_models import small_enhancer
from torch import Tensor

from jobs.bench import command
from jobs.benchmarks.engine import flops, published
from jobs.benchmarks.faces import mixed_faces
from jobs.benchmarks.graph import Actors, Course, run_simulated, write_units
from jobs.benchmarks.pipeline import BESIDE, RUN, STEADY, WHOLE, Way, alone, config_of, efficiency, photographs
from jobs.benchmarks.published import GRID_N, GRID_TAU, grid_evaluations, published_loop
from jobs.benchmarks.simulation import MOST_FACES, Check, foretell, shapes
from jobs.benchmarks.simulation import table as checks_table
from jobs.benchmarks.updates import STRIDES, UPDATES, Quality, table, walk
from operators.dr2.checkpoints import load_prior
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import sample
from operators.dr2.schedule import Schedule
from operators.restoration import unit_range
from pipeline.config import ConfigError
from pipeline.models import ModelError
from pipeline.output import Output
from pipeline.simulation.rates import Rates
from pipeline.simulation.stages import Naps


def test_the_straightforward_loop_and_the_engine_find_the_same_face() -> None:
    prior = load_prior("builtin")
    schedule = prior.schedule.respaced(100)
    (face,) = unit_range(mixed_faces(3, prior.size)[2:]) * 2 - 1
    noise = FaceNoise(0, "a", 0)
    loop = published_loop(prior, schedule, face, 4, 14, 10, noise)
    (engine,) = sample(prior, schedule, face[None], n=4, omega=14, taus=[10], noise=[noise])[10]
    torch.testing.assert_close(engine, loop, atol=1e-4, rtol=0)


def test_the_grid_costs_a_chain_per_pair() -> None:
    schedule = load_prior("builtin").schedule.respaced(100)
    # Margins of 5, 10, 20, 25 and 30 steps, and one evaluation more (paper's code).
    assert grid_evaluations(schedule, 99) == len(GRID_TAU) * (5 + 10 + 20 + 25 + 30 + len(GRID_N))
    assert grid_evaluations(schedule, 69) < grid_evaluations(schedule, 99)


@pytest.mark.slow
def test_it_times_every_way_and_says_on_what() -> None:
    options = ["dr2", "--faces", "2", "--loop-faces", "1", "--tau", "10", "--threads", str(torch.get_num_threads())]
    result = CliRunner().invoke(command, [*options, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert "torch" in answer["machine"]
    loop, grid, every_step, engine, automatic = answer["timings"]
    assert [timing["evaluations"] for timing in (loop, every_step, engine)] == [21, 21, 6]
    assert loop["faces_per_second"] == pytest.approx(loop["faces"] / loop["seconds"])
    assert not grid["measured"]
    assert grid["faces_per_second"] == pytest.approx(loop["faces_per_second"] * 21 / grid["evaluations"])
    assert automatic["evaluations"] < engine["evaluations"] + 7 * 2


@pytest.fixture(scope="module")
def tried() -> tuple[Prior, Schedule, Tensor]:
    prior = load_prior("builtin")
    return prior, prior.schedule.respaced(100), (unit_range(mixed_faces(3, prior.size)[2:]) * 2 - 1)[0]


def test_the_first_update_is_that_of_the_published_loop(tried: tuple[Prior, Schedule, Tensor]) -> None:
    prior, schedule, face = tried
    noise = FaceNoise(0, "a", 0)
    ours = walk(prior, schedule, face, 4, (14, 13, 12, 11, 10), noise, "ddpm")
    loop = published_loop(prior, schedule, face, 4, 14, 10, noise)
    torch.testing.assert_close(ours, loop, atol=1e-4, rtol=0)


def test_updates_differ_and_none_goes_astray(tried: tuple[Prior, Schedule, Tensor]) -> None:
    prior, schedule, face = tried

    def walked(update: str) -> Tensor:
        return walk(prior, schedule, face, 4, (20, 16, 12, 8), FaceNoise(0, "a", 0), update)

    first, *others = (walked(update) for update in UPDATES)
    for one, other in ((first, others[0]), (first, others[1]), (others[0], others[1])):
        assert 1e-4 < float((one - other).abs().mean()) < 0.2


def test_updates_are_compared_at_every_pair_and_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.benchmarks.updates.PAIRS", ((2, 40),))
    result = CliRunner().invoke(command, ["updates", "--faces", "3", "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert [(one["update"], one["stride"]) for one in found] == [(u, s) for u in UPDATES for s in STRIDES]
    assert [one["evaluations"] for one in found[:4]] == [11, 4, 3, 2]
    assert all(10 < one["psnr"] < 40 and 0 < one["ssim"] < 1 for one in found)
    assert "| 2 | 40 | second-order | 11: " in table([Quality(**one) for one in found])


@pytest.mark.slow
def test_the_engine_is_measured_against_the_machine() -> None:
    options = ["engine", "--batches", "1,2", "--faces", "1", "--threads", str(torch.get_num_threads())]
    result = CliRunner().invoke(command, [*options, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert [rate["batch"] for rate in found["rates"]] == [1, 2]
    for rate in found["rates"]:
        assert rate["flops_per_second"] == pytest.approx(rate["evaluations_per_second"] * found["flops"])
        assert 0 < rate["share"] < 1.5 and rate["memory"] is None
    for wrong in ("many", "4,0"):
        assert CliRunner().invoke(command, ["engine", "--batches", wrong]).exit_code == 2


def test_the_published_network_costs_what_is_known_of_it() -> None:
    prior = published("cpu", "float32")
    assert sum(weights.numel() for weights in prior.network.parameters()) == pytest.approx(93.6e6, rel=1e-3)
    assert flops(prior) == pytest.approx(388e9, rel=0.02)


def test_verification_is_measured_against_reading(tmp_path: Path) -> None:
    options = ["verify", "--units", "11", "--photos", "2", "--photo-kb", "50", "--rounds", "2", "--cold"]
    result = CliRunner().invoke(
        command, [*options, "--output", str(tmp_path / "out"), "--json"], catch_exceptions=False
    )
    answer = json.loads(result.stdout)
    assert "cores" in answer["machine"]
    read, hashed, verified, again = answer["timings"]
    assert [one["way"] for one in (read, hashed, verified)] == ["read", "sha256 in memory", "verify"]
    stored = sum(item.bytes for record in Output(tmp_path / "out").records() for item in record.objects)
    for one in (read, hashed, verified, again):
        assert one["bytes"] == stored > 11 * 50_000
        assert one["ratio"] == pytest.approx(read["seconds"] / one["seconds"])
    for wrong, said in ((str(tmp_path / "out"), "is not empty"), ("memory://bench", "--cold is for local folders")):
        with pytest.raises(ConfigError, match=said):
            CliRunner().invoke(command, [*options, "--output", wrong], catch_exceptions=False)


def test_the_pace_is_that_of_all_actors_at_work() -> None:
    # One actor begins at 10, the other at 12, in the middle of a unit; each unit takes 4 s.
    course = Course([[(10, 14), (14, 18)], [(12, 16), (16, 20)]], [14.5, 16.5, 18.5, 20.0])
    assert course.started == 12 and course.pace == pytest.approx(3.5 / 8)
    # Two at once are committed at once, so that the first two stand for the beginning and are left out.
    assert Course(course.served, [30.0] * 2 + [32.0] * 2 + [34.0] * 2).steady == 1
    with pytest.raises(ValueError, match="2 units say nothing"):
        assert Course(course.served, [1.0, 2.0]).steady


def test_a_run_is_compared_with_its_slowest_stage_at_its_best() -> None:
    rates = {
        "read": 90.0,
        "detect": 8.0,
        "restore, unit by unit": 3.0,
        "restore, 2 units at once": 4.0,
        BESIDE: 3.25,
        RUN: 3.9,
        STEADY: 4.1,
    }
    ways = tuple(Way(way, rate, (rate,)) for way, rate in {**rates, WHOLE: 3.0}.items())
    found = efficiency(100, 10, ways, 0.99)
    assert (found.slowest, found.ratio, found.whole) == ("restore", pytest.approx(0.975), pytest.approx(0.75))
    assert found.beside == pytest.approx(1.2)


def test_stages_alone_do_what_they_do_in_a_run(tmp_path: Path) -> None:
    source = write_units(tmp_path / "in", photographs()[:2], units=2, size=1, parts=2)
    found = alone(config_of(source, tmp_path / "out", photos=1, threads=1))
    assert list(found.seconds) == [
        "read",
        "detect",
        BESIDE,
        "restore, 2 units at once",
        "restore, unit by unit",
        "enhance",
        "commit",
    ]
    records = list(Output(tmp_path / "out-alone").records())
    assert len(records) == 2 and found.faces == sum(record.counts["faces"] for record in records) == 2
    assert all(set(record.seconds) == {"read", "detect", "restore", "enhance", "write"} for record in records)


@pytest.mark.timeout(900)  # half a minute on an idle machine
@pytest.mark.slow  # no slower than others, but it compares times, which a busy machine stretches
def test_the_simulation_foretells_a_run_on_ray_whose_work_is_a_sleep(cluster: str, tmp_path: Path) -> None:
    import ray

    naps = Naps(detect=0.02, restore=0.2, enhance=0.02, most_faces=MOST_FACES)  # about 1.6 s of Restore for a unit
    narrow = run_simulated(tmp_path / "narrow", Actors(), naps, units=10)
    rates = Rates.of(Output(tmp_path / "narrow" / "out").records(), "the narrow run")
    wide = run_simulated(tmp_path / "wide", Actors(restore=2), naps, units=10)
    told = foretell(Actors(restore=2), rates, ray.cluster_resources()["CPU"])
    assert told.pace == pytest.approx(wide.pace, rel=0.25)
    assert told.pace > 1.6 * narrow.pace  # so that a forecast of one actor would be too far off
    # Nothing holds commits back until Restore has ended.
    assert wide.commits[0] < max(end for served in wide.served for _, end in served)


def test_forecasts_are_held_against_runs_of_several_shapes() -> None:
    assert {shape.actors.restore for shape in shapes(2.0)} == {1, 2, 4, 8}
    check = Check("2 Restore", 48, units_per_second=2.0, foretold=2.1)
    assert check.error == pytest.approx(0.05)
    assert "| 2 Restore | 48 | 2 | 2.1 | +5.0% |" in checks_table([check])


@pytest.mark.parametrize("wrong", ["none", "2,0", ""])
def test_actors_are_whole_numbers(wrong: str) -> None:
    result = CliRunner().invoke(command, ["scaling", "--workers", wrong])
    assert result.exit_code == 2 and "whole numbers above 0 with commas between" in result.output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_is_measured_beside_its_stages() -> None:
    options = ["pipeline", "--units", "4", "--photos", "3", "--json"]
    found = json.loads(CliRunner().invoke(command, options, catch_exceptions=False).stdout)
    assert found["slowest"] == "restore" and 0 < found["whole"] < found["ratio"] < 1.2
    assert 0.5 < found["fill"] <= 1 and found["faces"] >= 12


def test_enhancers_are_timed_side_by_side(tmp_path: Path) -> None:
    path = small_enhancer(tmp_path / "small.safetensors")
    found = json.loads(CliRunner().invoke(command, ["enhancers", "--json", "none", str(path)]).stdout)
    assert [(cost["name"], cost["size"]) for cost in found["costs"]] == [("none", 256), ("small.safetensors", 256)]
    assert all(0 < cost["seconds"] <= cost["slowest"] for cost in found["costs"])
    with pytest.raises(ModelError, match=r"enhancer: .*gone\.pth"):
        CliRunner().invoke(command, ["enhancers", str(tmp_path / "gone.pth")], catch_exceptions=False)
