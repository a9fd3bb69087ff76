"""What the built-in enhancer learns from: pairs of a soft face and the sharp face of twice the size.

Three kinds:

- faces DR2 restored: y = DR2(x; N = 4, tau) * k_sigma (Eq. 12 of DR2E, arXiv 2303.06885), half of them
  without k_sigma, because a run hands DR2's output on as it is and a small prior leaves speckle in it; and what DR2
  made of faces degraded by Eq. 13, never blurred, for the same reason;
- faces that never went through DR2: x * k_sigma; x with light noise and compression, so that it learns to leave
  alone what is good; and x degraded by Eq. 13, which costs nothing to make and teaches it what faces look like
  before the first output of DR2 is there;
- either of them in grey or toned, because archives are, and grey must come back grey.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.training.dr2_outputs import Dr2Outputs
from jobs.training.faces import LabelledPhoto, aligned_faces, halve
from operators.degrade.blur import blur_batch, draw_sigmas
from operators.degrade.classical import classical, draw_any
from operators.degrade.steps import NOISES
from operators.detect.align import similarity, template
from operators.enhance.adapter import to_network
from pipeline.evaluation.faces import MAX_ENLARGEMENT

_LUMA = (0.299, 0.587, 0.114)  # BT.601
_UNBLURRED_SHARE = 0.5  # of Eq. 12's pairs
_PERFECT_SHARE = 0.10  # of the pairs without DR2: input untouched
_BLURRED_SHARE = 0.25  # blurred by k_sigma
_DEGRADED_SHARE = 0.45  # degraded by Eq. 13; the rest is lightly degraded
_LIGHT_SIGMA = (0.0, 0.8)  # pixels of the input
_LIGHT_DELTA = (0.0, 6.0)  # grey levels
_LIGHT_QUALITY = (60, 95)  # of JPEG


def sharp_faces(photos: Iterable[LabelledPhoto], size: int) -> tuple[list[str], NDArray[np.uint8]]:
    """Keys and aligned faces (M, size, size, 3) uint8, without those a photo shows too small to be sharp.

    Raises ValueError when none is left.
    """

    def large_enough(photo: LabelledPhoto) -> bool:
        if photo.landmarks is None:
            return False
        matrix = similarity(photo.landmarks, template(size))
        # What is too soft to measure by would teach softness.
        return float(np.hypot(matrix[0, 0], matrix[1, 0])) <= MAX_ENLARGEMENT

    return aligned_faces((photo for photo in photos if large_enough(photo)), size)


@dataclass(frozen=True)
class Mix:
    """Shares of a batch: `dr2` of the pairs went through DR2, `grey` of all pairs lost their colour."""

    dr2: float = 0.6
    grey: float = 0.3

    def __post_init__(self) -> None:
        if not (0 <= self.dr2 <= 1 and 0 <= self.grey <= 1):
            raise ValueError(f"shares must lie in [0, 1], got {self}")


class EnhancerPairs:
    """Draws batches of (input, target), in [-1, 1], from a generator and nothing else.

    sharp: (K, 2S, 2S, 3) uint8 target faces; outputs: DR2's outputs at S px, their rows counted in `sharp`.
    """

    def __init__(self, sharp: NDArray[np.uint8], outputs: Dr2Outputs, mix: Mix) -> None:
        if mix.dr2 and not len(outputs):
            raise ValueError("a share of DR2 pairs needs DR2 outputs; make some or set the share to 0")
        self.sharp, self.outputs, self.mix = sharp, outputs, mix

    def draw(self, count: int, rng: np.random.Generator, dr2: bool = True) -> tuple[Tensor, Tensor]:
        """`count` pairs: (count, 3, S, S) inputs and (count, 3, 2S, 2S) targets, float32 in [-1, 1].

        dr2: whether any of them may have gone through DR2 yet.
        """
        pairs = [self._dr2(rng) if rng.random() < self.mix.dr2 and dr2 else self._kept(rng) for _ in range(count)]
        inputs = to_network(np.stack([soft for soft, _, _ in pairs]))
        targets = to_network(np.stack([sharp for _, sharp, _ in pairs]))
        inputs = blur_batch(inputs, np.array([sigma for _, _, sigma in pairs]))
        return augmented(inputs, targets, self.mix.grey, rng)

    def _dr2(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
        picked = int(rng.integers(len(self.outputs)))
        soft = self.outputs.images[picked]
        blurred = not self.outputs.degraded[picked] and rng.random() >= _UNBLURRED_SHARE
        sigma = _sigma(soft, rng) if blurred else 0.0
        return soft, self.sharp[self.outputs.rows[picked]], sigma

    def _kept(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
        sharp = self.sharp[int(rng.integers(len(self.sharp)))]
        small = halve(sharp[None])[0]
        kind = rng.random()
        if kind < _PERFECT_SHARE:
            return small, sharp, 0.0
        if kind < _PERFECT_SHARE + _BLURRED_SHARE:
            return small, sharp, _sigma(small, rng)
        if kind < _PERFECT_SHARE + _BLURRED_SHARE + _DEGRADED_SHARE:
            return halve(np.stack([draw_any(rng, len(sharp)).apply(sharp, rng)]))[0], sharp, 0.0
        light = classical(
            small,
            r=1.0,
            sigma=float(rng.uniform(*_LIGHT_SIGMA)),
            noise=NOISES[int(rng.integers(len(NOISES)))],
            delta=float(rng.uniform(*_LIGHT_DELTA)),
            quality=int(rng.integers(*_LIGHT_QUALITY)),
            rng=rng,
        )
        return light, sharp, 0.0


def _sigma(face: NDArray[np.uint8], rng: np.random.Generator) -> float:
    return float(draw_sigmas(1, len(face), rng)[0])


def augmented(inputs: Tensor, targets: Tensor, grey: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Flip, tone and discolour input and target alike. Both (B, 3, H, W) in [-1, 1]; grey: share without colour."""
    count = len(inputs)

    def per_face(values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(count, -1, 1, 1)

    flip = per_face(np.floor(rng.random(count) + 0.5))
    colourless = per_face(np.floor(rng.random(count) + grey))
    # Half of the colourless ones are toned, as sepia prints are, together with a third of the others.
    toned = (rng.random(count) < np.where(colourless.numpy().ravel() > 0, 0.5, 0.33))[:, None]
    gain = per_face(np.exp(np.where(toned, rng.normal(0.0, 0.12, (count, 3)), 0.0)))
    contrast, brightness = per_face(rng.uniform(0.6, 1.1, count)), per_face(rng.normal(0.0, 0.08, count))

    def change(images: Tensor) -> Tensor:
        images = flip * images.flip(-1) + (1 - flip) * images
        luma = torch.einsum("c,bchw->bhw", torch.tensor(_LUMA), images)[:, None]
        images = colourless * luma + (1 - colourless) * images
        return ((contrast * images + brightness + 1.0) * gain - 1.0).clamp(-1.0, 1.0)

    return change(inputs), change(targets)
