"""NIQE: how far an image's local statistics are from those of natural images, without a reference.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE SPL 2013.
The features are pyiqa's; the pristine model, the patch size and what a hopeless image scores are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from operators.quality.niqe_features import FEATURES, patch_features
from operators.training.weights import WeightsError, load_weights, save_weights, sha256_file
from operators.weights import resolve

MIN_PATCHES = 4
"""With fewer patches that carry any contrast there is no covariance worth the name: such an image scores +inf."""


class Niqe:
    """Scores images against a pristine model: a multivariate Gaussian over patch features of good images."""

    def __init__(
        self, mean: NDArray[np.float64], covariance: NDArray[np.float64], patch: int, fingerprint: str = ""
    ) -> None:
        """mean: (36,), covariance: (36, 36), patch: side of the square patches in pixels (even, >= 16).

        fingerprint: SHA-256 of the file the model came from, for provenance; "" for one made in memory.
        """
        if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES) or patch % 2 or patch < 16:
            raise ValueError(f"not a NIQE model: mean {mean.shape}, covariance {covariance.shape}, patch {patch}")
        self.mean = mean
        self.covariance = covariance
        self.patch = patch
        self.fingerprint = fingerprint

    def save(self, path: Path, description: Mapping[str, Any]) -> None:
        """Writes the model as safetensors in float64, with `description` (JSON values) in its header."""
        state = {"mean": torch.from_numpy(self.mean), "covariance": torch.from_numpy(self.covariance)}
        save_weights(path, state, {**description, "kind": "niqe", "patch": self.patch})

    @classmethod
    def load(cls, source: str | Path = "builtin") -> Niqe:
        """Loads "builtin" or a file written by `dr2e fit-niqe`. Raises WeightsError naming the file."""
        path = resolve(str(source), "niqe")
        state, description = load_weights(path, kind="niqe")
        try:
            return cls(state["mean"].numpy(), state["covariance"].numpy(), int(description["patch"]), sha256_file(path))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{path} is not a usable NIQE model ({error}); fit it with 'dr2e fit-niqe'") from error

    def score(self, images: torch.Tensor) -> NDArray[np.float64]:
        """NIQE of each image; lower is more natural.

            score = sqrt( (m - m_p)^T ((C + C_p) / 2)^+ (m - m_p) )

        with m, C the mean and covariance of the image's patch features and m_p, C_p the pristine model's.

        images: (B, 3, H, W) RGB in [0, 1], any float dtype and device; any H, W.
        Returns (B,) float64. An image's score does not depend on the others in the batch. An image with a NaN or
        an infinity, or with fewer than MIN_PATCHES patches that carry contrast (tiny, constant, saturated), scores
        +inf. Raises ValueError for another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"need images of shape (B, 3, H, W), got {tuple(images.shape)}")
        features = patch_features(images, self.patch)
        return np.array([self._distance(of_image) for of_image in features], dtype=np.float64)

    def _distance(self, features: NDArray[np.float64]) -> float:
        features = features[np.isfinite(features).all(axis=1)]
        if len(features) < MIN_PATCHES:
            return float("inf")
        difference = features.mean(axis=0) - self.mean
        pooled = (np.cov(features, rowvar=False) + self.covariance) / 2
        return float(np.sqrt(max(difference @ np.linalg.pinv(pooled, hermitian=True) @ difference, 0.0)))
