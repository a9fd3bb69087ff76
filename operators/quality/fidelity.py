"""Fidelity: how much of the person in the input a candidate still shows.

The fine scales of a degraded face hold damage, its coarse scales the person. So both images are low-passed before
their structure is compared: what a candidate removed at fine scales costs nothing, what it moved at coarse scales does.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.degrade.blur import blur_matrix

SIGMA = 1 / 64
"""Low-pass: standard deviation of the Gaussian as a fraction of the face's side (2 px at 128)."""

WINDOW = 1 / 32
"""Window of the local statistics: standard deviation as a fraction of the face's side (4 px at 128)."""

_LUMA = (0.299, 0.587, 0.114)
_C1, _C2 = 0.01**2, 0.03**2  # SSIM's constants for a range of 1


@torch.no_grad()
def fidelity(candidates: Tensor, faces: Tensor) -> NDArray[np.float64]:
    """Mean SSIM (Wang et al. 2004) between the low-passed lumas of each candidate and its degraded face.

    candidates, faces: (B, 3, S, S) RGB in [0, 1]. Returns (B,) float64 in [-1, 1]; 1 means nothing moved. A
    candidate with a NaN or an infinity has fidelity -1. Raises ValueError for shapes that differ.
    """
    if candidates.shape != faces.shape or candidates.ndim != 4 or candidates.shape[2] != candidates.shape[3]:
        raise ValueError(f"need two (B, 3, S, S) of one shape, got {tuple(candidates.shape)}, {tuple(faces.shape)}")
    size = faces.shape[-1]
    low_pass = torch.from_numpy(blur_matrix(size, SIGMA * size)).to(faces.device)
    window = torch.from_numpy(blur_matrix(size, WINDOW * size)).to(faces.device)
    a, b = (low_pass @ _luma(images) @ low_pass.T for images in (candidates, faces))

    def local(images: Tensor) -> Tensor:
        return window @ images @ window.T

    mean_a, mean_b = local(a), local(b)
    variance_a, variance_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    return (luminance * structure).mean(dim=(1, 2)).nan_to_num(nan=-1.0).cpu().numpy()


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=images.device)
    return torch.einsum("c,bchw->bhw", weights, images.to(torch.float64))
