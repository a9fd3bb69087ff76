"""Does a prior recite the faces it was trained on? How near x0_hat comes to faces it saw, and to faces it did not.

Held-out faces are degraded severely and given to DR2. What comes out is partly invented. A prior that memorised
invents faces of its training set, so x0_hat lies nearer to those than to as many faces that nobody trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.training.nearest import distances, expected_nearest
from operators.degrade.classical import draw
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import sample, start_step
from operators.enhance.adapter import from_network, to_network

Pixels = NDArray[np.uint8]
Distances = NDArray[np.float64]

SEVERITY, R = "severe", 16
"""Eq. 13 of the inputs, stated at 512 px: little of the person is left, so much is invented."""

SETTINGS = ((8, 350), (4, 150))
"""(N, tau), tau in timesteps of T = 1000: the most inventive first, then a gentler one."""

_STEPS = 100  # of the respaced schedule
_BATCH = 8
_SHEET_ROWS = 8


@dataclass(frozen=True)
class Faces:
    """Aligned faces a prior was trained on, and held-out ones.

    Attributes:
        seen: (K, P, P, 3) uint8, K >= 1.
        unseen: (U, P, P, 3) uint8, U >= 2.
        keys: the names of the unseen ones.
    """

    seen: Pixels
    unseen: Pixels
    keys: Sequence[str]


@dataclass(frozen=True)
class Nearness:
    """Distances (see `jobs.training.nearest`) of M images, made from as many held-out faces: (M,) float64 each.

    Attributes:
        all_seen: to the nearest of all training faces.
        seen, unseen: to the nearest of equally many training and held-out faces (its own left out), expected over
            all choices of that many.
        own: to the face the image was made from.
    """

    all_seen: Distances
    seen: Distances
    unseen: Distances
    own: Distances

    @property
    def advantage(self) -> Distances:
        """How much nearer the training faces are than equally many held-out ones."""
        return self.unseen - self.seen

    def figures(self, themselves: Nearness) -> dict[str, float]:
        """Means over the images. `themselves` are the held-out faces' own distances.

        "excess": of the advantage over that of the faces themselves, which is what memorising raises, and "error"
        its standard error. Compared face by face, because some faces lie nearer to all others.
        """
        excess = self.advantage - themselves.advantage
        means = {"all_seen": self.all_seen, "seen": self.seen, "unseen": self.unseen, "own": self.own}
        means |= {"advantage": self.advantage, "excess": excess}
        figures = {name: float(values.mean()) for name, values in means.items()}
        return figures | {"error": float(excess.std() / np.sqrt(len(excess)))}


def report(prior: Prior, faces: Faces, count: int, out: Path, say: Callable[[str], None] = print) -> None:
    """Measure on up to `count` held-out faces; write OUT/prior.memorisation.json and OUT/prior.neighbours.png."""
    rows = np.random.default_rng(0).permutation(len(faces.unseen))[:count]  # every prior meets the same faces
    inputs = degraded(faces.unseen[rows], rows, prior.size)
    made = predictions(prior, inputs, [faces.keys[row] for row in rows])
    if not made:
        say(f"memorisation: not measured, {prior.name!r} was trained below timestep {prior.spec.max_timestep}")
        return
    themselves = nearness(faces.unseen[rows], rows, faces)
    found = {name: nearness(images, rows, faces).figures(themselves) for name, images in made.items()}
    found["held-out faces"] = themselves.figures(themselves)
    compared = min(len(faces.seen), len(faces.unseen) - 1)
    figures = {
        "faces": len(rows), "training_faces": len(faces.seen), "compared_faces": compared,
        "distances": found,
    }  # fmt: skip
    (out / "prior.memorisation.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    first = next(iter(made.values()))
    Image.fromarray(contact_sheet(inputs, first, rows, faces)).save(out / "prior.neighbours.png")
    say(table(found, len(faces.seen), compared))


def degraded(faces: Pixels, rows: NDArray[np.int64], size: int) -> Pixels:
    """(M, P, P, 3) faces brought to `size` px and degraded by Eq. 13, the draws of each seeded by its row."""
    inputs = []
    for row, face in zip(rows, _resized(faces, size), strict=True):
        rng = np.random.default_rng([int(row), R])
        inputs.append(draw(SEVERITY, R, rng, size).apply(face, rng))
    return np.stack(inputs)


def predictions(prior: Prior, inputs: Pixels, keys: Sequence[str]) -> dict[str, Pixels]:
    """x0_hat of (M, S, S, 3) inputs by setting; without the settings that start above what the prior was trained at."""
    schedule = prior.schedule.respaced(_STEPS)
    made = {}
    for n, tau in SETTINGS:
        step = schedule.step_of(tau)
        omega = start_step(n, step, _STEPS)
        if int(schedule.timesteps[omega]) >= prior.spec.max_timestep:
            continue
        images = []
        for start in range(0, len(inputs), _BATCH):
            batch = to_network(inputs[start : start + _BATCH])
            noise = [FaceNoise(0, key, 0) for key in keys[start : start + _BATCH]]
            found = sample(prior, schedule, batch, n=n, omega=omega, taus=[step], noise=noise)
            images.append(from_network(found[step]))
        made[f"x0_hat, N = {n}, tau = {tau}"] = np.concatenate(images)
    return made


def nearness(images: Pixels, rows: NDArray[np.int64], faces: Faces) -> Nearness:
    """Measure (M, S, S, 3) images that were made from the held-out faces `rows`."""
    to_seen, to_unseen = distances(images, faces.seen), distances(images, faces.unseen)
    mine = np.arange(len(faces.unseen)) == rows[:, None]
    to_others = to_unseen[~mine].reshape(len(rows), -1)
    compared = min(to_seen.shape[1], to_others.shape[1])
    return Nearness(
        all_seen=to_seen.min(axis=1),
        seen=expected_nearest(to_seen, compared),
        unseen=expected_nearest(to_others, compared),
        own=to_unseen[mine],
    )


def table(found: Mapping[str, Mapping[str, float]], training_faces: int, compared: int) -> str:
    """Markdown, a row for each kind of images; see `Nearness` for the columns."""
    lines = [
        f"| images | nearest of {training_faces:,} training faces | of {compared} training | of {compared} held-out "
        "| own face | advantage of training | beyond the faces themselves |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row['all_seen']:.3f} | {row['seen']:.3f} | {row['unseen']:.3f} | {row['own']:.3f} "
        f"| {row['advantage']:+.3f} | {row['excess']:+.3f} ± {row['error']:.3f} |"
        for name, row in found.items()
    ]
    return "\n".join(lines)


def contact_sheet(inputs: Pixels, images: Pixels, rows: NDArray[np.int64], faces: Faces) -> Pixels:
    """A line of S px squares per face: input, x0_hat, truth, nearest training face, nearest other held-out face."""
    rows, size = rows[:_SHEET_ROWS], inputs.shape[1]
    inputs, images = inputs[:_SHEET_ROWS], images[:_SHEET_ROWS]
    to_unseen = distances(images, faces.unseen)
    to_unseen[np.arange(len(rows)), rows] = np.inf
    chosen = faces.unseen[rows], faces.seen[distances(images, faces.seen).argmin(1)], faces.unseen[to_unseen.argmin(1)]
    columns = [inputs, images, *(_resized(pixels, size) for pixels in chosen)]
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


def _resized(faces: Pixels, size: int) -> Pixels:
    sides = (size, size)
    return np.stack([np.asarray(Image.fromarray(face).resize(sides, Image.Resampling.BICUBIC)) for face in faces])
