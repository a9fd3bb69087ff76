"""The second look: a small network that places the five landmarks in a close-up of one face.

A heat map per landmark and its mean position (integral regression: Sun et al., 2018, arXiv 1711.08229): every
pixel votes, so that the position is finer than the map, and moving the face moves the answer by as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from operators.detect.network import SeparableBlock, Stage, cell_centres, convolution

CLOSE_UP = 80
"""Side of a close-up in pixels."""

FACE_SIZE = 52.0
"""Size of the face in it, sqrt(width * height) of its box; the rest is what surrounds it."""

STRIDE = 4
"""Pixels per cell of the heat maps."""


class LandmarkNetwork(nn.Module):
    """(B, 3, CLOSE_UP, CLOSE_UP) float32 in [-1, 1] -> heat map logits (B, 5, CLOSE_UP / 4, CLOSE_UP / 4)."""

    def __init__(self, widths: tuple[int, int, int, int] = (24, 48, 96, 128)) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, widths[0], 3, stride=2), nn.ReLU())
        self.fine = Stage(widths[0], widths[1], blocks=2)
        self.middle = Stage(widths[1], widths[2], blocks=3)
        self.coarse = Stage(widths[2], widths[3], blocks=3)
        self.coarse_out = convolution(widths[3], widths[2], 1)
        self.middle_out = convolution(widths[2], widths[1], 1)
        self.middle_smooth = SeparableBlock(widths[2])
        self.fine_smooth = nn.Sequential(SeparableBlock(widths[1]), SeparableBlock(widths[1]))
        self.out = nn.Conv2d(widths[1], 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        coarse = self.coarse_out(self.coarse(middle))
        middle = self.middle_smooth(middle + F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        middle = F.interpolate(self.middle_out(middle), scale_factor=2.0, mode="bilinear", align_corners=False)
        maps: Tensor = self.out(self.fine_smooth(fine + middle))
        return maps


def positions(maps: Tensor) -> Tensor:
    """Heat map logits (B, 5, h, w) -> landmarks (B, 5, 2), (x, y) in close-up pixels, centres at integers."""
    weights = maps.float().flatten(2).softmax(dim=-1)
    centres = cell_centres(maps.shape[2], maps.shape[3], STRIDE, maps.device).flatten(0, 1)
    return weights @ centres


def landmark_loss(maps: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, float]]:
    """How far the landmarks are from `wanted` (B, 5, 2) in close-up pixels, and how unlike a small blot the maps.

    "landmark" is the mean distance over the face's size. The second term, cross-entropy to a Gaussian of one
    cell, tells every cell where to vote and makes the first steps fast.
    """
    distance = torch.sqrt(((positions(maps) - wanted) ** 2).sum(dim=-1) + 1e-4).mean() / FACE_SIZE
    centres = cell_centres(maps.shape[2], maps.shape[3], STRIDE, maps.device).flatten(0, 1)
    squared = ((centres - wanted[:, :, None]) ** 2).sum(dim=-1) / STRIDE**2
    blot = torch.softmax(-squared / 2, dim=-1)
    entropy = -(blot * maps.float().flatten(2).log_softmax(dim=-1)).sum(dim=-1).mean()
    loss = 10.0 * distance + 0.3 * entropy
    return loss, {"landmark": float(distance.detach()), "entropy": float(entropy.detach())}


@dataclass(frozen=True)
class View:
    """Where a close-up looks: the middle (x, y) of the face in the photo (pixel centres at integers), its size
    sqrt(width * height) in photo pixels, and its turn in radians, positive clockwise as seen."""

    middle: tuple[float, float]
    size: float
    angle: float = 0.0

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3): a point of the close-up to a point of the photo."""
        step = self.size / FACE_SIZE
        cos, sin = step * np.cos(self.angle), step * np.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        centre = np.full(2, (CLOSE_UP - 1) / 2)
        return np.column_stack([turn, np.asarray(self.middle) - turn @ centre])

    def to_photo(self, points: NDArray) -> NDArray[np.float64]:
        """Points (..., 2) of the close-up in photo pixels."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]


def view_of_box(box: NDArray[np.float32]) -> View:
    """The close-up of an upright box (x0, y0, x1, y1)."""
    sides = np.maximum(box[2:] - box[:2], 1e-3)
    middle = (box[:2] + box[2:]) / 2
    return View((float(middle[0]), float(middle[1])), float(np.sqrt(sides.prod())))


def upright_view(view: View, landmarks: NDArray) -> View:
    """The same face turned upright, by the line from between the eyes to the middle of the mouth.

    That line, unlike the line of the eyes, is long in a profile too. A face further from upright than a quarter
    turn is a wrong set of landmarks and keeps its view.
    """
    down = landmarks[3:5].mean(axis=0) - landmarks[:2].mean(axis=0)
    angle = float(np.arctan2(-down[0], down[1]))
    return View(view.middle, view.size, angle if abs(angle) < np.pi / 4 else view.angle)
