"""What a face detector takes and gives; every detector in this package honours it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Order of the five landmarks; left and right are the viewer's, as in the FFHQ template."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One face.

    Coordinates put pixel centres at integers (x = 0 is the middle of column 0), the convention of
    OpenCV, of facexlib and of the FFHQ template.

    box: (x0, y0, x1, y1) in pixels of the photo, clipped to [0, W] x [0, H].
    score: confidence in [0, 1].
    landmarks: (5, 2) float32, (x, y) pixels of the photo in the order of `LANDMARK_NAMES`; a landmark
        may lie outside a photo that cuts the face.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float32]


class Detector(Protocol):
    """Finds faces in photos.

    name: short name for provenance, e.g. "builtin".
    fingerprint: sha256 (hex) of the weights, so that a run records which detector it used.
    together: photos that are best handed in at a time; 1 where they are looked at one by one all the same.
    """

    name: str
    fingerprint: str
    together: int

    def detect(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Detections of each photo, (H, W, 3) uint8 RGB, of any sizes.

        The result of a photo does not depend on the other photos of the call. Detections are ordered
        by (x0, y0), so that a face index is stable; a photo without a face gives an empty list.
        """
        ...


def in_reading_order(detections: Sequence[Detection]) -> list[Detection]:
    """Detections ordered by (x0, y0), then by score, the order every detector answers in."""
    return sorted(detections, key=lambda d: (d.box[0], d.box[1], -d.score))
