"""``dr2e train detector``: train the face detector on scenes composed from labelled portraits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from jobs.training.ageing import age
from jobs.training.faces import held_out, load_labelled
from jobs.training.measure_detector import measure
from jobs.training.options import data_option, training_options
from jobs.training.scenes import Portrait, compose, prepare
from operators.detect.builtin import BuiltinDetector, to_network
from operators.detect.loss import detection_loss
from operators.detect.network import FaceNetwork
from operators.detect.targets import Labels, Targets, assign
from operators.training.loop import TrainingPlan, train
from operators.training.weights import load_weights, save_weights

SMALLEST_DETAIL = 10.0
"""A face is never aged beyond what its own size in pixels allows; a scene without one is aged as if it had this."""

GRADIENT_CLIP = 5.0
"""The loss is a sum over positives and its gradients are larger than a mean squared error's."""


@dataclass(frozen=True)
class DetectorTask:
    """What the training loop minimises: the detection loss over freshly composed, aged scenes.

    portraits: what scenes are made of; batch scenes of side x side pixels (a multiple of 32) per step.
    """

    portraits: Sequence[Portrait]
    batch: int
    side: int
    device: str

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, list[list[Targets]]]:
        """Images (B, 3, side, side) float32 in [-1, 1] and their targets."""
        pixels, targets = [], []
        for _ in range(self.batch):
            image, labels = compose(self.portraits, self.side, rng)
            pixels.append(np.asarray(age(image, _detail(labels), rng)))
            targets.append(assign(labels, self.side, self.side))
        return to_network(np.stack(pixels), self.device), targets

    def loss(self, model: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The `LossFunction` of the training loop."""
        images, targets = self.draw(rng)
        return detection_loss(model(images), targets)


def _detail(labels: Labels) -> float:
    sides = (labels.boxes[:, 2:] - labels.boxes[:, :2])[labels.sure]
    return max(SMALLEST_DETAIL, float(np.sqrt(sides.prod(axis=1)).min())) if len(sides) else SMALLEST_DETAIL


@click.command("detector")
@data_option
@training_options(steps=2400, lr=2e-3, batch=12)
@click.option("--side", default=256, show_default=True, help="Side of a scene in pixels, a multiple of 32.")
@click.option("--start-from", type=click.Path(path_type=Path), help="Weights to start from instead of random ones.")
def command(
    data: tuple[str, ...],
    storage_options: dict[str, str],
    plan: TrainingPlan,
    batch: int,
    side: int,
    start_from: Path | None,
) -> None:
    """Train the face detector on labelled shards and write OUT/detector.safetensors and its figures.

    Stop it whenever you like: the same command resumes from OUT/checkpoint.pt.
    """
    if side % 32:
        raise click.BadParameter(f"{side} is not a multiple of 32", param_hint="--side")
    photos = list(load_labelled(data, storage_options))
    task = DetectorTask(prepare(photo for photo in photos if not held_out(photo.key)), batch, side, plan.device)
    tests = [photo for photo in photos if held_out(photo.key)]
    click.echo(f"{len(task.portraits)} faces to train on, {len(tests)} photos held out")
    torch.manual_seed(plan.seed)
    network = FaceNetwork()
    if start_from is not None:
        network.load_state_dict(load_weights(start_from, "detector")[0])
    result = train(
        network.to(memory_format=torch.channels_last), task.loss, replace(plan, clip=GRADIENT_CLIP), click.echo
    )
    path = plan.out / "detector.safetensors"
    save_weights(
        path,
        result.ema_state,
        {
            "kind": "detector",
            "name": "dr2e-detector",
            "licence": "Apache-2.0",
            "network": network.config.to_json(),
            "training": {
                "steps": result.step,
                "batch": batch,
                "side": side,
                "lr": plan.lr,
                "seed": plan.seed,
                "ema_half_life": plan.ema,
                "faces": len(task.portraits),
            },
        },
    )
    figures = measure(BuiltinDetector.load(str(path), plan.device), tests, plan.seed)
    (plan.out / "detector.figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    for name, value in figures.items():
        click.echo(f"{name:24s} {value:.4f}")
    click.echo(f"{path} after {result.step} steps{'' if result.finished else ' (unfinished: run again to go on)'}")
