"""Which cells answer for which face, and what they should say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.detect.network import STRIDES

SIZE_RANGE: dict[int, tuple[float, float]] = {8: (9.0, 44.0), 16: (36.0, 112.0)}
"""Face sizes, sqrt(width * height) in input pixels, that each stride must find; the ranges overlap."""

POSITIVE_RADIUS = 0.22
"""A cell answers for a face when its centre lies within this ellipse radius of the box's middle, in box sides."""

IGNORED_RADIUS = 0.45
"""Between the two radii a cell may say what it likes."""

RANGE_MARGIN = 1.4
"""Faces out of a stride's range by less than this factor are ignored there; further out they are background."""


@dataclass(frozen=True)
class Labels:
    """The faces of one training image.

    boxes: (N, 4) float32 (x0, y0, x1, y1); landmarks: (N, 5, 2) float32; pixels, centres at integers.
    sure: (N,) bool; False for a face that is mostly hidden or cut: neither asked for nor punished.
    """

    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    sure: NDArray[np.bool_]


@dataclass(frozen=True)
class Targets:
    """What one stride's cells should say; h x w cells.

    score: (h, w) float32, 1 face, 0 background, -1 ignored.
    boxes: (h, w, 4) and landmarks: (h, w, 5, 2) float32 in input pixels, zero where score is not 1.
    """

    score: NDArray[np.float32]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]


def assign(labels: Labels, height: int, width: int) -> list[Targets]:
    """Targets for an image of `height` x `width` pixels, one per stride of `STRIDES`."""
    return [_assign_stride(labels, height // stride, width // stride, stride) for stride in STRIDES]


def _assign_stride(labels: Labels, rows: int, columns: int, stride: int) -> Targets:
    score = np.zeros((rows, columns), np.float32)
    boxes = np.zeros((rows, columns, 4), np.float32)
    landmarks = np.zeros((rows, columns, 5, 2), np.float32)
    if len(labels.boxes) == 0:
        return Targets(score, boxes, landmarks)
    sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
    middles = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2
    sizes = np.sqrt(sides.prod(axis=1))
    low, high = SIZE_RANGE[stride]
    wanted = labels.sure & (sizes >= low) & (sizes <= high)
    concerned = (sizes >= low / RANGE_MARGIN) & (sizes <= high * RANGE_MARGIN)

    offset = (stride - 1) / 2
    xs = np.arange(columns, dtype=np.float32) * stride + offset
    ys = np.arange(rows, dtype=np.float32) * stride + offset
    across = (xs[None, :] - middles[:, :1]) / sides[:, :1]
    down = (ys[None, :] - middles[:, 1:]) / sides[:, 1:]
    distance = np.sqrt(across[:, None, :] ** 2 + down[:, :, None] ** 2)
    score[(distance[concerned] < IGNORED_RADIUS).any(axis=0)] = -1.0

    distance = np.where(wanted[:, None, None], distance, np.inf)
    owner = distance.argmin(axis=0)
    positive = distance.min(axis=0) < POSITIVE_RADIUS
    # A face smaller than a cell may have no centre near enough: the cell it falls in answers for it.
    column = np.floor((middles[:, 0] + 0.5) / stride).astype(int)
    row = np.floor((middles[:, 1] + 0.5) / stride).astype(int)
    inside = wanted & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    for face in np.flatnonzero(inside):
        positive[row[face], column[face]] = True
        owner[row[face], column[face]] = face
    score[positive] = 1.0
    boxes[positive] = labels.boxes[owner[positive]]
    landmarks[positive] = labels.landmarks[owner[positive]]
    return Targets(score, boxes, landmarks)
