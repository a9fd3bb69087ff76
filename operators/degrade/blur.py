"""Gaussian blur: the k_sigma of Eq. 12 (DR2E, arXiv 2303.06885) and of Eq. 13."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

REFERENCE_SIZE = 512
"""Face size in pixels for which the paper states its sigma; other sizes scale sigma in proportion."""

ENHANCER_SIGMA = (1.0, 7.0)
"""Eq. 12: range of sigma, in pixels at 512 px, that blurs DR2's output to train the enhancer."""

_TRUNCATE = 4.0  # the kernel ends at 4 sigma, beyond which less than 1e-4 of its mass lies


def gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """Samples of a Gaussian at integer pixels, normalised to sum 1.

    sigma: standard deviation in pixels, >= 0; 0 gives the identity [1.0].
    Returns (2 k + 1,) float64 with k = ceil(4 sigma). The two-dimensional k_sigma is its outer product.
    Raises ValueError for a negative or non-finite sigma.
    """
    if not np.isfinite(sigma) or sigma < 0:
        raise ValueError(f"sigma must be a finite number >= 0, got {sigma}")
    if sigma == 0:
        return np.ones(1)
    radius = int(np.ceil(_TRUNCATE * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel: NDArray[np.float64] = weights / weights.sum()
    return kernel


def blur(image: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """image * k_sigma with mirrored borders. image: (H, W, C), any float dtype, kept; sigma in pixels."""
    kernel = gaussian_kernel(sigma)
    rows = ndimage.correlate1d(image, kernel, axis=0, mode="reflect")
    blurred: NDArray[np.floating] = ndimage.correlate1d(rows, kernel, axis=1, mode="reflect")
    return blurred


def blur_batch(faces: torch.Tensor, sigmas: NDArray[np.float64]) -> torch.Tensor:
    """The same blur for a batch of square faces, each with its own sigma, on the faces' device.

    faces: (B, C, S, S) float; sigmas: (B,) in pixels at size S. Returns the blurred faces, same shape and dtype.
    """
    size = faces.shape[-1]
    rows = np.stack([blur_matrix(size, float(sigma)) for sigma in sigmas])
    matrix = torch.from_numpy(rows).to(faces)[:, None]
    return matrix @ faces @ matrix.mT


def blur_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """(size, size) float64 matrix that blurs a column of `size` pixels with mirrored borders (rows sum to 1)."""
    matrix: NDArray[np.float64] = ndimage.correlate1d(np.eye(size), gaussian_kernel(sigma), axis=0, mode="reflect")
    return matrix


def draw_sigmas(count: int, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Eq. 12's sigma for `count` faces of `size` px: uniform in ENHANCER_SIGMA, scaled by size / 512. (count,)"""
    return rng.uniform(*ENHANCER_SIGMA, size=count) * (size / REFERENCE_SIZE)
