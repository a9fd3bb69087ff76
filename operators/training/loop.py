"""The training loop shared by every built-in model.

One rule makes resume exact: everything random in a step is drawn from a generator seeded by
``(seed, step)``. A checkpoint then holds only the model, its moving average, the optimiser and the
step number, and a run that was killed continues with the very batches it would have seen.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from operators.training.weights import WeightsError

LossFunction = Callable[[nn.Module, int, np.random.Generator], tuple[Tensor, Mapping[str, float]]]
"""``loss(model, step, rng) -> (scalar loss, extra numbers for the curve)``; it draws its own batch from rng."""


CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how hard to train.

    Attributes:
        out: folder for ``checkpoint.pt`` and ``curve.csv``; an existing checkpoint is resumed.
        steps: optimiser steps in all, over every resumed session.
        minutes: stop this session after so many minutes, whatever ``steps`` says (0: no limit).
        lr: peak learning rate of AdamW; linear warm-up over ``warmup`` steps, cosine decay to 5 % at ``steps``.
        ema: half-life of the exponential moving average, in steps.
        learned_from: what the training is of, in any words; a checkpoint of another is refused.
        bf16: run the forward pass under bfloat16 autocast (pays on AMX, AVX512-BF16 or a GPU only).
    """

    out: Path
    steps: int
    minutes: float = 0.0
    lr: float = 3e-4
    warmup: int = 100
    ema: float = 300.0
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    device: str = "cpu"
    bf16: bool = False
    learned_from: str = ""
    checkpoint_every: int = 100
    log_every: int = 20


@dataclass(frozen=True)
class TrainingResult:
    """Where training stopped: the averaged weights, the step, and whether all steps are done."""

    ema_state: dict[str, Tensor]
    step: int
    finished: bool


class Ema:
    """Exponential moving average of a model's weights, with a ramp so early averages are not the initial noise."""

    def __init__(self, model: nn.Module, half_life: float) -> None:
        self.half_life = half_life
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        half_life = min(self.half_life, 0.1 * (step + 1))
        decay = 0.5 ** (1.0 / max(half_life, 1e-3))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1.0 - decay)
            else:
                self.state[name].copy_(value)


def learning_rate(plan: TrainingPlan, step: int) -> float:
    """Linear warm-up, then a cosine from ``lr`` to 5 % of it at ``steps``."""
    warm = min(1.0, (step + 1) / max(1, plan.warmup))
    progress = min(1.0, step / max(1, plan.steps))
    return plan.lr * warm * (0.05 + 0.95 * 0.5 * (1.0 + float(np.cos(np.pi * progress))))


def train(
    model: nn.Module,
    loss: LossFunction,
    plan: TrainingPlan,
    say: Callable[[str], None] = print,
) -> TrainingResult:
    """Minimise ``loss`` over ``model`` and return its moving average.

    Resumes from ``plan.out/checkpoint.pt`` when it is there. Raises WeightsError for that of another training, and
    FloatingPointError when the loss stops being a finite number, naming the step, because weights after it are
    worthless.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(plan.device)
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay, betas=(0.9, 0.99))
    ema = Ema(model, plan.ema)
    start = _resume(plan, model, ema, optimiser, device)
    if start:
        say(f"resuming at step {start} of {plan.steps}")
    curve = _Curve(plan.out / "curve.csv", start)
    began = time.monotonic()
    step = start
    while step < plan.steps:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(plan, step)
        rng = np.random.default_rng((plan.seed, step))
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16):
            value, numbers = loss(model, step, rng)
        if not torch.isfinite(value):
            raise FloatingPointError(f"loss is {value.item()} at step {step}; lower --lr or resume an older checkpoint")
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimiser.step()
        ema.update(model, step)
        step += 1
        curve.add({"loss": float(value.detach()), **numbers})
        elapsed = time.monotonic() - began
        if step % plan.log_every == 0 or step == plan.steps:
            say(_progress(step, start, plan, elapsed, curve.write(step, elapsed)))
        out_of_time = bool(plan.minutes) and elapsed > 60.0 * plan.minutes
        if step % plan.checkpoint_every == 0 or step == plan.steps or out_of_time:
            _save(plan, model, ema, optimiser, step)
        if out_of_time:
            break
    return TrainingResult(ema.state, step, step >= plan.steps)


def _progress(step: int, start: int, plan: TrainingPlan, elapsed: float, means: Mapping[str, float]) -> str:
    rate = (step - start) / max(elapsed, 1e-9)
    left = (plan.steps - step) / max(rate, 1e-9)
    if plan.minutes:
        left = min(left, max(0.0, 60.0 * plan.minutes - elapsed))
    figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
    return f"step {step}/{plan.steps}  {figures}  {rate:.2f} steps/s  {left / 60:.0f} min left"


class _Curve:
    """Means of the numbers since the last written row, appended to a CSV file."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.sums: dict[str, float] = {}
        self.count = 0
        if start == 0 and path.exists():
            path.unlink()

    def add(self, numbers: Mapping[str, float]) -> None:
        self.count += 1
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def write(self, step: int, elapsed: float) -> dict[str, float]:
        means = {name: total / self.count for name, total in self.sums.items()}
        header = not self.path.exists()
        with self.path.open("a", newline="") as file:
            rows = csv.writer(file)
            if header:
                rows.writerow(["step", "seconds", *means])
            rows.writerow([step, f"{elapsed:.0f}", *(f"{value:.5f}" for value in means.values())])
        self.sums, self.count = {}, 0
        return means


def _save(plan: TrainingPlan, model: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer, step: int) -> None:
    # Written beside and renamed, so that a kill never leaves half a checkpoint.
    path = plan.out / CHECKPOINT
    beside = path.with_suffix(".writing")
    state = {"model": model.state_dict(), "ema": ema.state, "optimiser": optimiser.state_dict(), "step": step}
    torch.save({**state, "learned_from": plan.learned_from}, beside)
    beside.replace(path)


def _resume(
    plan: TrainingPlan, model: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer, device: torch.device
) -> int:
    path = plan.out / CHECKPOINT
    if not path.exists():
        return 0
    saved = torch.load(path, map_location=device, weights_only=True)
    if saved.get("learned_from", "") != plan.learned_from:
        raise WeightsError(
            f"{path} holds a training from other data or other weights than now; name another folder, or delete it"
        )
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError as error:
        raise WeightsError(f"{path} holds another network than the one asked for; choose another --out") from error
    ema.state = {name: value.to(device) for name, value in saved["ema"].items()}
    optimiser.load_state_dict(saved["optimiser"])
    return int(saved["step"])
