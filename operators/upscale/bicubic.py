"""The upscaler that makes nothing up: plain bicubic enlargement, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from operators.upscale.contract import unwatched


class BicubicUpscaler:
    """Pillow's bicubic enlargement (Keys, a = -0.5), an `Upscaler` without weights."""

    name = "bicubic"
    licence = "Apache-2.0"
    fingerprint = ""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def enlarge(self, photo: NDArray[np.uint8], progress: Callable[[], None] = unwatched) -> NDArray[np.uint8]:
        """See :class:`operators.upscale.contract.Upscaler`. Equal channels stay equal."""
        progress()
        return enlarged_plane(photo, self.scale)


def enlarged_plane(pixels: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) uint8 -> `scale` times as high and wide, bicubic."""
    height, width = pixels.shape[:2]
    size = (width * scale, height * scale)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
