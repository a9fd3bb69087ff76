"""Full-reference metrics without weights: PSNR, SSIM, MS-SSIM and GMSD, with the numbers pyiqa gives.

SSIM's window is separable, so here it costs four small matrix products; pyiqa convolves in two dimensions and double
precision, which takes a CPU seconds per face. The numbers are the same.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from operators.degrade.blur import gaussian_kernel

MIN_SIDE = 176
"""Least side in pixels: MS-SSIM halves the image four times, and SSIM's window of 11 must still fit."""

_WINDOW, _WINDOW_SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@torch.no_grad()
def reference_metrics(images: NDArray[np.uint8], truths: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """PSNR, SSIM, MS-SSIM and GMSD of each image against its truth.

    images, truths: (B, H, W, 3) uint8 RGB of one shape, sides of at least MIN_SIDE. Returns per name (B,) float64:

    psnr: dB over all of RGB; 80 for equal images (a mean squared error of 1e-8 of the range is added, as pyiqa does).
    ssim, ms_ssim: Wang et al. 2004 and 2003, of the BT.601 luma rounded to 8 bits; in [0, 1], 1 for equal images.
    gmsd: Xue et al. 2014, of the same luma; >= 0, 0 for equal images.

    Raises ValueError for other shapes.
    """
    if images.shape != truths.shape or images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < MIN_SIDE:
        raise ValueError(
            f"need two (B, H, W, 3) of one shape, sides >= {MIN_SIDE}; got {images.shape} and {truths.shape}"
        )
    from pyiqa.archs.gmsd_arch import gmsd
    from pyiqa.archs.psnr_arch import psnr
    from pyiqa.utils.color_util import to_y_channel

    x, y = (torch.from_numpy(batch).permute(0, 3, 1, 2).double() / 255 for batch in (images, truths))
    luma_x, luma_y = (to_y_channel(batch, 255)[:, 0] for batch in (x, y))
    ssim, ms_ssim = _structure(luma_x, luma_y)
    values: dict[str, Tensor] = {"psnr": psnr(x, y), "ssim": ssim, "ms_ssim": ms_ssim, "gmsd": gmsd(x, y)}
    return {name: value.numpy() for name, value in values.items()}


def _structure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and MS-SSIM of lumas (B, H, W) in 0-255: (B,) each.

    MS-SSIM is the product over five scales of the contrast-structure term, the coarsest with luminance, to the power
    of the scale's weight.
    """
    first, product = None, torch.ones(len(x), dtype=x.dtype)
    for scale, weight in enumerate(_SCALES):
        ssim, contrast = _ssim(x, y)
        first = ssim if first is None else first
        product = product * (ssim if scale == len(_SCALES) - 1 else contrast) ** weight
        x, y = _half(x), _half(y)
    assert first is not None
    return first, product


def _ssim(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means over all whole windows of SSIM and of its contrast-structure term, which is cut at 0: (B,) each."""
    rows, columns = (_window(side) for side in x.shape[1:])

    def local(images: Tensor) -> Tensor:
        return rows @ images @ columns.T

    mean_x, mean_y = local(x), local(y)
    variance_x, variance_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    contrast = F.relu((2 * covariance + _C2) / (variance_x + variance_y + _C2))
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return (luminance * contrast).mean(dim=(1, 2)), contrast.mean(dim=(1, 2))


@lru_cache
def _window(side: int) -> Tensor:
    """(side - 10, side) float64: each row one place of the Gaussian window, all of it inside the image."""
    kernel = gaussian_kernel(_WINDOW_SIGMA)
    centre, reach = len(kernel) // 2, _WINDOW // 2
    kernel = kernel[centre - reach : centre + reach + 1]
    matrix = np.zeros((side - _WINDOW + 1, side))
    for place in range(len(matrix)):
        matrix[place, place : place + _WINDOW] = kernel / kernel.sum()
    return torch.from_numpy(matrix)


def _half(images: Tensor) -> Tensor:
    """The mean of each 2 x 2 pixels; an odd side is padded with zeros in front and behind, as pyiqa does."""
    padding = (images.shape[1] % 2, images.shape[2] % 2)
    return F.avg_pool2d(images[:, None], kernel_size=2, padding=padding)[:, 0]
