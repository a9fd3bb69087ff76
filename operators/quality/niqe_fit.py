"""Fitting NIQE's pristine model: what good images look like, as one Gaussian over patch features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from operators.quality.niqe import Niqe
from operators.quality.niqe_features import FEATURES, patch_features, patch_sharpness

MIN_PATCHES = 20 * FEATURES
"""Fewer patches than this say too little about a 36 x 36 covariance."""


def fit(images: NDArray[np.uint8], patch: int, sharpness: float) -> Niqe:
    """Fits the pristine model to good images.

    images: (M, H, W, 3) uint8 RGB. patch: side of the patches in pixels, even.
    sharpness: of every image only patches at least this fraction as sharp as its sharpest one count (0-1), as in
    Sec. III of the NIQE paper: what is out of focus, or plain, says nothing about good images.
    Raises ValueError when fewer than MIN_PATCHES patches remain.
    """
    kept: list[NDArray[np.float64]] = []
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(images[start : start + 64]).permute(0, 3, 1, 2).float() / 255
        features, sharp = patch_features(batch, patch), patch_sharpness(batch, patch)
        usable = (sharp >= sharpness * sharp.max(axis=1, keepdims=True)) & np.isfinite(features).all(axis=2)
        kept.append(features[usable])
    patches = np.concatenate(kept) if kept else np.empty((0, FEATURES))
    if len(patches) < MIN_PATCHES:
        raise ValueError(f"{len(patches)} usable patches in {len(images)} images; a NIQE model needs {MIN_PATCHES}")
    return Niqe(patches.mean(axis=0), np.cov(patches, rowvar=False), patch)
