"""What makes a face good enough to be the target of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace

from operators.images import to_grey


@dataclass(frozen=True)
class Target:
    """A face that wants to be a target.

    image: (S, S, 3) uint8, aligned. landmarks: (5, 2) float32: eyes, nose, mouth corners, in any pixels.
    enlargement: how many times larger than in its photo it is. niqe: of the image; None when nobody asked.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    enlargement: float
    niqe: float | None = None


@dataclass(frozen=True)
class Gate:
    """The limits; None lets everything through. enlargement: at most. niqe: at most. sharpness: at least, see
    `sharpness`. turn: at most, see `turn`."""

    enlargement: float | None = 1.15
    niqe: float | None = None
    sharpness: float | None = None
    turn: float | None = None

    def refusal(self, target: Target) -> tuple[str, str] | None:
        """Why a face is no target: a code and a line for a person; None when it may be one."""
        if self.enlargement is not None and target.enlargement > self.enlargement:
            size = len(target.image)
            return "gate.small", f"its face would be enlarged {target.enlargement:.2f} times to {size} px"
        if self.turn is not None and (found := turn(target.landmarks)) > self.turn:
            return "gate.turned", f"its nose is {found:.2f} eye distances beside the middle, over {self.turn:g}"
        if self.sharpness is not None and (found := sharpness(target.image)) < self.sharpness:
            return "gate.blurred", f"the variance of its Laplacian is {found:.1f}, under {self.sharpness:g}"
        if self.niqe is not None and target.niqe is not None and not target.niqe <= self.niqe:
            return "gate.niqe", f"its NIQE is {target.niqe:.2f}, over {self.niqe:g}"
        return None


def sharpness(image: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the luma, grey levels squared (Pech-Pacheco et al. 2000): small for blurred images,
    large for sharp ones and for noisy ones. image: (S, S, 3) uint8."""
    return float(laplace(to_grey(image)[..., 0].astype(np.float32)).var())


def turn(landmarks: NDArray[np.float32]) -> float:
    """How far the nose is from the middle between the eyes, along the line between them, in eye distances: 0 seen from
    the front; more for a head that is turned. landmarks: (5, 2)."""
    left, right, nose = (landmarks[place].astype(np.float64) for place in range(3))
    between = right - left
    length = float(np.hypot(*between))
    return abs(float((nose - (left + right) / 2) @ between)) / length**2 if length else float("inf")
