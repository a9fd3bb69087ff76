"""The 36 features NIQE reads off each patch of an image.

pyiqa normalises the luma, halves it and cuts it into patches. Its fit of each patch's distribution scans a grid of
9,801 shapes; here the same nearest grid entry is found by bisection, which makes scoring several times cheaper and
leaves the numbers alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FEATURES = 36
"""18 per scale, two scales: shape and spread of the normalised luma and of its products with 4 neighbours."""

_WINDOW = torch.softmax(-0.5 * (torch.arange(-3.0, 4.0, dtype=torch.float64) / (7 / 6)) ** 2, dim=0).tolist()
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_CHUNK = 4  # images per pass: small enough to stay in the cache


@torch.no_grad()
def patch_features(images: Tensor, patch: int) -> NDArray[np.float64]:
    """Features of every whole patch of the centred crop that patches tile.

    images: (B, 3, H, W) RGB in [0, 1], any float dtype and device; patch: side in pixels, even.
    Returns (B, P, 36) float64 with P = (H // patch) * (W // patch). Patches without contrast hold NaN, and so do
    all patches of an image with a NaN or an infinity.
    """
    crop = _tiled(images, patch)
    count = (crop.shape[2] // patch) * (crop.shape[3] // patch)
    if count == 0 or len(images) == 0:
        return np.full((len(images), count, FEATURES), np.nan)
    return np.concatenate([_chunk_features(chunk, patch).cpu().numpy() for chunk in crop.split(_CHUNK)])


@torch.no_grad()
def patch_sharpness(images: Tensor, patch: int) -> NDArray[np.float64]:
    """Mean local deviation of the luma in each patch, in grey levels: (B, P) float64, patches as `patch_features`.

    images: (B, 3, H, W) RGB in [0, 1], B and P at least 1.
    """
    from pyiqa.matlab_utils import blockproc

    deviation = _window_deviation(_luma(_tiled(images, patch)))
    sharpness: Tensor = blockproc(deviation, [patch, patch], fun=lambda blocks, _: blocks.mean(dim=(2, 3)))
    return sharpness[..., 0].cpu().numpy()


def _tiled(images: Tensor, patch: int) -> Tensor:
    """The centred crop that whole patches tile."""
    height, width = (side // patch * patch for side in images.shape[2:])
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


def _chunk_features(images: Tensor, patch: int) -> Tensor:
    from pyiqa.matlab_utils import blockproc, imresize  # importing pyiqa takes seconds; only who scores pays

    luma = _luma(images)
    broken = ~torch.isfinite(images).flatten(1).all(dim=1)
    luma[broken] = 0.0
    half = imresize(luma / 255.0, scale=0.5, antialiasing=True) * 255.0
    features: Tensor = torch.cat(
        [
            blockproc(_normalise(luma), [patch, patch], fun=_block_features),
            blockproc(_normalise(half), [patch // 2, patch // 2], fun=_block_features),
        ],
        dim=-1,
    )
    features[broken] = torch.nan
    return features


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=images.device)
    levels = (images.to(torch.float64).clamp(0, 1) * weights[:, None, None]).sum(dim=1, keepdim=True)
    return (levels * 255.0).round()  # NIQE was defined on 8-bit images


def _normalise(luma: Tensor) -> Tensor:
    """(I - mu) / (sigma + 1) with mu, sigma over a 7 x 7 Gaussian window and replicated borders."""
    return (luma - _window_mean(luma)) / (_window_deviation(luma) + 1.0)


def _window_deviation(luma: Tensor) -> Tensor:
    spread = (_window_mean(luma.square()) - _window_mean(luma).square()).abs()
    return (spread + torch.finfo(luma.dtype).eps).sqrt()  # pyiqa's constant: scores agree with it to rounding


def _window_mean(luma: Tensor) -> Tensor:
    """The window is separable; shifted sums are several times faster than a float64 convolution on a CPU."""
    height, width = luma.shape[2:]
    padded = torch.nn.functional.pad(luma, (3, 3, 3, 3), mode="replicate")
    rows, mean = torch.zeros_like(padded[..., :height, :]), torch.zeros_like(luma)
    for k, weight in enumerate(_WINDOW):
        rows.add_(padded[..., k : k + height, :], alpha=weight)
    for k, weight in enumerate(_WINDOW):
        mean.add_(rows[..., k : k + width], alpha=weight)
    return mean


def _block_features(blocks: Tensor, _options: object) -> Tensor:
    """(M, 1, h, w) normalised luma -> (M, 18)."""
    maps = torch.stack([blocks, *(blocks * torch.roll(blocks, shift, dims=(2, 3)) for shift in _NEIGHBOURS)])
    alpha, left, right, mean_factor = _asymmetric_gaussian(maps.flatten(2))
    mean = (right - left) * mean_factor
    own = torch.stack([alpha[0], (left[0] + right[0]) / 2], dim=-1)
    products = torch.stack([alpha, mean, left, right], dim=-1)[1:]  # (4, M, 4)
    return torch.cat([own, products.transpose(0, 1).flatten(1)], dim=-1)


def _asymmetric_gaussian(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moment fit of an asymmetric generalised Gaussian over the last axis (Lasmar et al., ICIP 2009).

    Returns its shape alpha, its left and right scales, and Gamma(2 / alpha) / Gamma(1 / alpha); NaN scales where a
    side is empty.
    """
    negative, positive = values.clamp(max=0), values.clamp(min=0)
    left = (negative.square().sum(-1) / (values < 0).sum(-1)).sqrt()
    right = (positive.square().sum(-1) / (values > 0).sum(-1)).sqrt()
    ratio = left / right
    moments = values.abs().mean(-1).square() / values.square().mean(-1)
    wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1).square()
    shapes, moment_ratio, scale, mean_factor = (table.to(values.device) for table in _tables())
    above = torch.searchsorted(moment_ratio, wanted.nan_to_num().contiguous()).clamp(1, len(shapes) - 1)
    nearest = above - (wanted - moment_ratio[above - 1] <= moment_ratio[above] - wanted).long()
    return shapes[nearest], left * scale[nearest], right * scale[nearest], mean_factor[nearest]


@lru_cache(maxsize=1)
def _tables() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per shape on pyiqa's grid 0.2, 0.201 ... 10: the shape, its (rising) moment ratio, and two Gamma quotients."""
    shapes = torch.arange(0.2, 10 + 0.001, 0.001).double()
    one, two, three = (torch.lgamma(k / shapes) for k in (1.0, 2.0, 3.0))
    return shapes, (2 * two - one - three).exp(), (one - three).exp().sqrt(), (two - one).exp()
