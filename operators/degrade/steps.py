"""The steps that degradation models are made of: noise, resizing, JPEG."""

from __future__ import annotations

import io
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Noise = Literal["gaussian", "laplace", "poisson"]
NOISES: tuple[Noise, ...] = get_args(Noise)

Resampling = Literal["area", "bilinear", "bicubic"]
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)

_FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def add_noise(
    image: NDArray[np.floating], noise: Noise, delta: float, rng: np.random.Generator, *, grey: bool = False
) -> NDArray[np.floating]:
    """Noise of standard deviation `delta` on an image (H, W, 3) in grey levels 0-255; its dtype may change.

    Poisson noise has that deviation at mid-grey and grows with the square root of brightness. grey: the same noise in
    all three channels, as sensors without colour have it; Poisson noise then follows the luma. `rng` draws the noise
    and nothing else. Raises ValueError for an unknown noise.
    """
    if delta == 0:
        return image
    of = image @ _LUMA if grey else image
    if noise == "gaussian":
        added = rng.normal(0.0, delta, of.shape)
    elif noise == "laplace":
        added = rng.laplace(0.0, delta / np.sqrt(2.0), of.shape)
    elif noise == "poisson":
        photons_per_level = 127.5 / delta**2  # so that the deviation at level 127.5 is delta
        added = rng.poisson(of * photons_per_level) / photons_per_level - of
    else:
        raise ValueError(f"unknown noise {noise!r}; one of {', '.join(NOISES)}")
    noisy: NDArray[np.floating] = image + (added[..., None] if grey else added)
    return noisy


def resize(image: NDArray[np.uint8], size: tuple[int, int], resampling: Resampling = "bicubic") -> NDArray[np.uint8]:
    """(H, W, 3) uint8 to size (width, height); antialiased when it shrinks, itself when it has that size. Bicubic has
    a = -0.5."""
    if image.shape[1::-1] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, _FILTERS[resampling]))


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 after a round through JPEG at `quality` 1-95, chroma at half the resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    buffer.seek(0)
    return np.asarray(Image.open(buffer).convert("RGB"))


def to_uint8(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Rounded and clipped to 0-255."""
    rounded: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return rounded


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
