"""The training loop: killed and resumed it ends where an uninterrupted run ends, and it does learn."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from operators.training.loop import TrainingPlan, learning_rate, train


def regression(model: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
    x = torch.from_numpy(rng.standard_normal((16, 4)).astype(np.float32))
    error = (model(x) - x.sum(1, keepdim=True)).square().mean()
    return error, {"first": float(x[0, 0])}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def plan(out: Path) -> TrainingPlan:
    return TrainingPlan(out=out, steps=60, lr=0.05, warmup=5, ema=5, checkpoint_every=20, log_every=20)


def quiet(_: str) -> None:
    """Progress lines are not part of these tests."""


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = train(model(), regression, plan(tmp_path / "whole"), quiet)

    def killed(network: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        if step == 30:
            raise KeyboardInterrupt
        return regression(network, step, rng)

    with pytest.raises(KeyboardInterrupt):
        train(model(), killed, plan(tmp_path / "cut"), quiet)
    resumed = train(model(), regression, plan(tmp_path / "cut"), quiet)
    assert whole.finished
    assert resumed.finished
    for name, value in whole.ema_state.items():
        assert torch.equal(value, resumed.ema_state[name])


def test_it_learns_and_writes_its_curve(tmp_path: Path) -> None:
    train(model(), regression, plan(tmp_path), quiet)
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [int(row["step"]) for row in rows] == [20, 40, 60]
    assert float(rows[-1]["loss"]) < 0.3 * float(rows[0]["loss"])


def test_a_time_limit_stops_early_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    result = train(model(), regression, replace(plan(tmp_path), minutes=1e-9), quiet)
    assert not result.finished
    assert result.step == 1
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    def broken(network: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        return network(torch.full((1, 4), float("nan"))).sum(), {}

    with pytest.raises(FloatingPointError, match="step 0"):
        train(model(), broken, plan(tmp_path), quiet)


def test_another_network_is_not_resumed_into(tmp_path: Path) -> None:
    train(model(), regression, plan(tmp_path), quiet)
    with pytest.raises(ValueError, match="another network"):
        train(nn.Linear(5, 1), regression, plan(tmp_path), quiet)


def test_the_learning_rate_warms_up_and_decays(tmp_path: Path) -> None:
    rates = [learning_rate(plan(tmp_path), step) for step in range(60)]
    assert rates[0] < rates[4]
    assert max(rates) <= 0.05
    assert rates[-1] == pytest.approx(0.05 * 0.05, rel=0.1)
