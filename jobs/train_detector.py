"""``dr2e train detector``: train the face detector on scenes composed from labelled portraits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import click
import numpy as np
import torch
from torch import Tensor, nn

from jobs.training.ageing import ruin
from jobs.training.close_ups import close_up, weighted
from jobs.training.faces import LabelledPhoto, load_labelled
from jobs.training.measure_detector import measure
from jobs.training.options import data_option, training_options
from jobs.training.scenes import VISIBLE, Portrait, compose, prepare, shown
from operators.detect.builtin import BuiltinDetector
from operators.detect.landmarks import LandmarkNetwork, landmark_loss
from operators.detect.loss import detection_loss
from operators.detect.network import FaceNetwork
from operators.detect.scan import to_network
from operators.detect.targets import Labels, Targets, assign
from operators.training.loop import TrainingPlan, train
from operators.training.split import held_out
from operators.training.weights import save_weights

SMALLEST_DETAIL = 10.0
"""A face is never aged beyond what its own size in pixels allows; a scene without one is aged as if it had this."""

GRADIENT_CLIP = 5.0
"""The losses are sums over positives and cells; their gradients are larger than a mean squared error's."""


@dataclass(frozen=True)
class ScanTask:
    """What training the scanning network minimises: the detection loss over freshly composed, aged scenes.

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
            pixels.append(np.asarray(ruin(image, _detail(labels), rng)))
            targets.append(assign(labels, self.side, self.side))
        return to_network(np.stack(pixels), self.device), targets

    def loss(self, model: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The `LossFunction` of the training loop."""
        images, targets = self.draw(rng)
        return detection_loss(model(images), targets)


def _detail(labels: Labels) -> float:
    sides = (labels.boxes[:, 2:] - labels.boxes[:, :2])[labels.sure]
    return max(SMALLEST_DETAIL, float(np.sqrt(sides.prod(axis=1)).min())) if len(sides) else SMALLEST_DETAIL


@dataclass(frozen=True)
class LandmarkTask:
    """What training the landmark network minimises: the landmark loss over `batch` fresh close-ups per step."""

    portraits: Sequence[Portrait]
    batch: int
    device: str

    def loss(self, model: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The `LossFunction` of the training loop."""
        drawn = [close_up(self.portraits, rng) for _ in range(self.batch)]
        wanted = torch.from_numpy(np.stack([points for _, points in drawn])).to(self.device)
        return landmark_loss(model(to_network(np.stack([pixels for pixels, _ in drawn]), self.device)), wanted)


def from_origin(photos: Iterable[LabelledPhoto], origin: float) -> Iterator[LabelledPhoto]:
    """Photos whose labels call the centre of the first pixel `origin`, relabelled so that it is 0."""
    for photo in photos:
        landmarks = None if photo.landmarks is None else photo.landmarks - np.float32(origin)
        box = photo.box
        if box is not None:
            box = (box[0] - origin, box[1] - origin, box[2] - origin, box[3] - origin)
        yield replace(photo, landmarks=landmarks, box=box)


def split(photos: Iterable[LabelledPhoto]) -> tuple[list[Portrait], list[LabelledPhoto]]:
    """What to train on, prepared as it is read so that full photos do not pile up, and the held-out photos.

    A box that mostly lies beyond its photo is a wrong label and not trained on; held-out photos are all kept.
    """
    tests: list[LabelledPhoto] = []

    def kept() -> Iterator[LabelledPhoto]:
        for photo in photos:
            if held_out(photo.key):
                tests.append(photo)
            elif shown(photo) >= VISIBLE:
                yield photo

    return prepare(kept()), tests


@click.command("detector")
@data_option
@training_options(steps=4000, lr=2e-3, batch=12)
@click.option("--side", default=256, show_default=True, help="Side of a scene in pixels, a multiple of 32.")
@click.option("--landmark-steps", default=4700, show_default=True, help="Steps of the landmark network.")
@click.option(
    "--label-origin", default=0.0, show_default=True, help="What labels call the first pixel's centre: 0, 0.5 or 1."
)
@click.option("--landmark-batch", default=32, show_default=True, help="Close-ups per step of the landmark network.")
def command(
    data: tuple[str, ...],
    storage_options: dict[str, str],
    plan: TrainingPlan,
    batch: int,
    side: int,
    landmark_steps: int,
    landmark_batch: int,
    label_origin: float,
) -> None:
    """Train the face detector on labelled shards and write OUT/detector.safetensors and its figures.

    Two networks, one after the other: one that scans a photo for faces, one that places the landmarks of a face.
    --minutes limits each. Stop whenever you like: the same command resumes from the checkpoints in OUT.
    """
    if side % 32:
        raise click.BadParameter(f"{side} is not a multiple of 32", param_hint="--side")
    portraits, tests = split(from_origin(load_labelled(data, storage_options), label_origin))
    click.echo(f"{len(portraits)} faces to train on, {len(tests)} photos held out")
    torch.manual_seed(plan.seed)
    networks = {"scan": FaceNetwork(), "landmarks": LandmarkNetwork()}
    losses = {
        "scan": ScanTask(portraits, batch, side, plan.device).loss,
        "landmarks": LandmarkTask(weighted(portraits), landmark_batch, plan.device).loss,
    }
    steps = {"scan": plan.steps, "landmarks": landmark_steps}
    state, done = {}, {}
    for part, network in networks.items():
        click.echo(f"training the {part} network")
        its_plan = replace(plan, out=plan.out / part, steps=steps[part], clip=GRADIENT_CLIP)
        result = train(network.to(memory_format=torch.channels_last), losses[part], its_plan, click.echo)
        state.update({f"{part}.{name}": value for name, value in result.ema_state.items()})
        done[part] = result.step
    path = plan.out / "detector.safetensors"
    training = {
        "steps": done, "batch": {"scan": batch, "landmarks": landmark_batch}, "side": side, "lr": plan.lr,
        "seed": plan.seed, "ema_half_life": plan.ema, "faces": len(portraits),
        "label_origin": label_origin,
    }  # fmt: skip
    description = {"kind": "detector", "name": "dr2e-detector", "licence": "Apache-2.0"}
    save_weights(path, state, {**description, "network": FaceNetwork().config.to_json(), "training": training})
    figures = measure(BuiltinDetector.load(str(path), plan.device), tests, plan.seed)
    (plan.out / "detector.figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    for name, value in figures.items():
        click.echo(f"{name:24s} {value:.4f}")
    click.echo(f"{path} after {done} of {steps} steps")
