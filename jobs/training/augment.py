"""Augmentation of aligned faces, so that a few thousand faces do not get memorised."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
_SEPIA = torch.tensor([1.07, 0.98, 0.82]).view(1, 3, 1, 1)


def to_tensor(crops: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 to (B, 3, S, S) float32 in [-1, 1]."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def augment(faces: Tensor, size: int, rng: np.random.Generator, grey_share: float = 0.2) -> Tensor:
    """Random flip, small similarity, brightness, contrast and saturation; a share of the faces grey or sepia.

    faces: (B, 3, P, P) float32 in [-1, 1] with P >= size. Returns (B, 3, size, size) in [-1, 1].
    """
    count = len(faces)
    angle, zoom = rng.normal(0, 0.05, count), np.exp(rng.normal(0, 0.05, count))
    flip = rng.choice([-1.0, 1.0], count)
    shift = rng.normal(0, 0.03, (count, 2))
    matrix = np.zeros((count, 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = flip * zoom * np.cos(angle), -zoom * np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = flip * zoom * np.sin(angle), zoom * np.cos(angle)
    matrix[:, :, 2] = shift
    grid = F.affine_grid(torch.from_numpy(matrix), [count, 3, size, size], align_corners=False)
    moved = F.grid_sample(faces, grid, mode="bicubic", padding_mode="reflection", align_corners=False)

    def per_face(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1, 1)

    contrast, bias = per_face(np.exp(rng.normal(0, 0.12, count))), per_face(rng.normal(0, 0.08, count))
    colour = rng.random(count)
    saturation = per_face(np.where(colour < grey_share, 0.0, np.exp(rng.normal(0, 0.2, count))))
    sepia = per_face((colour < 0.25 * grey_share).astype(np.float64))
    luma = (moved * _LUMA).sum(1, keepdim=True)
    toned = luma + saturation * (moved - luma)
    toned = sepia * ((toned + 1) * _SEPIA - 1) + (1 - sepia) * toned
    return (contrast * toned + bias).clamp(-1, 1)
