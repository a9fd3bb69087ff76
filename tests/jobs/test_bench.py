"""`dr2e bench`: the ways it compares do the same thing, and its ratios follow from its times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from jobs.bench import command
from jobs.benchmarks.engine import flops, published
from jobs.benchmarks.faces import mixed_faces
from jobs.benchmarks.published import GRID_N, GRID_TAU, grid_evaluations, published_loop
from jobs.benchmarks.updates import STRIDES, UPDATES, Quality, table, walk
from operators.dr2.checkpoints import load_prior
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import sample
from operators.dr2.schedule import Schedule
from operators.restoration import unit_range
from pipeline.config import ConfigError
from pipeline.output import Output


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
