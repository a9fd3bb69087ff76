"""How near a face is to the nearest of many: coarse, and blind to light, contrast and mirroring."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray

SIDE = 32
"""Faces are compared at this size: who it is survives, grain and degradation do not."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


def distances(faces: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Distance of every face to every other: RMS difference of standardised lumas at SIDE px, mirrored or not.

    faces: (M, S, S, 3) uint8; others: (K, P, P, 3) uint8 RGB, aligned alike.
    Returns (M, K) float64 from 0 (equal up to light and contrast) to 2; sqrt(2) for unrelated pictures.
    """
    ours, theirs = _standardised(faces), _standardised(others)
    correlation = np.maximum(_correlation(ours, theirs), _correlation(ours[:, :, ::-1], theirs))
    # Both have mean 0 and variance 1, so the mean square of the difference is 2 - 2 x their correlation.
    apart: NDArray[np.float64] = np.sqrt(np.maximum(2.0 - 2.0 * correlation, 0.0))
    return apart


def expected_nearest(apart: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The nearest of `count` others, averaged over all choices of `count` of them; so sets of unequal size compare.

    With d_1 <= ... <= d_K the sorted distances, d_i is the smallest of a random choice without replacement with
    probability C(K - i, count - 1) / C(K, count).

    apart: (M, K) as `distances`. Returns (M,) float64. Raises ValueError unless 1 <= count <= K.
    """
    others = apart.shape[1]
    if not 1 <= count <= others:
        raise ValueError(f"the nearest of {count} faces cannot be had from {others}")
    chance = np.empty(others)
    chance[0] = count / others
    for i in range(1, others):
        chance[i] = chance[i - 1] * max(others - i - count + 1, 0) / (others - i)
    return np.sort(apart, axis=1) @ chance


def _standardised(faces: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(M, S, S, 3) uint8 -> (M, SIDE, SIDE) luma of mean 0 and deviation 1; all 0 for a flat image."""
    luma = torch.from_numpy(faces.astype(np.float32) @ _LUMA)[:, None]
    small = functional.interpolate(luma, size=(SIDE, SIDE), mode="bilinear", antialias=True)[:, 0].numpy()
    centred = small.astype(np.float64) - small.mean(axis=(1, 2), keepdims=True)
    standardised: NDArray[np.float64] = centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1e-3)
    return standardised


def _correlation(faces: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = faces.reshape(len(faces), -1) @ others.reshape(len(others), -1).T
    return product / SIDE**2
