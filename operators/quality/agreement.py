"""Whether a detector still finds a restored face where it was."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

MARGIN = 0.5
"""Border to add around an aligned face before it is looked for, as a share of its side: detectors know heads in
photographs, and none that fill them."""


def normalised_mean_error(found: ArrayLike, expected: ArrayLike) -> float:
    """Mean distance of landmarks, in eye distances (NME, as landmark detectors are measured).

    found, expected: (5, 2), both eyes first, in the same pixels. inf where the expected eyes coincide.
    """
    there, wanted = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    eyes = float(np.hypot(*(wanted[1] - wanted[0])))
    return float(np.hypot(*(there - wanted).T).mean()) / eyes if eyes else float("inf")


def bordered(face: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """The face (S, S, 3) with its edge repeated around it, and how many pixels wide that border is."""
    border = round(len(face) * MARGIN)
    return np.pad(face, ((border, border), (border, border), (0, 0)), mode="edge"), border


def disagreement(found: Iterable[ArrayLike], expected: ArrayLike) -> float | None:
    """Error of the set of landmarks that is nearest to `expected`; None when nothing was found. See
    `normalised_mean_error`."""
    return min((normalised_mean_error(landmarks, expected) for landmarks in found), default=None)
