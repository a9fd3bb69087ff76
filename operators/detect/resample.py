"""Draw an image through an affine map, antialiased when it shrinks. Coordinates as in align.py."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MARGIN = 3
"""Source pixels that `resample` reads around a point, per source pixel between two drawn ones."""


def resample(source: NDArray[np.uint8], to_source: NDArray[np.float64], width: int, height: int) -> NDArray[np.float32]:
    """Draw (height, width, 3) float32 from `source` (H, W, 3) uint8, bicubic (a = -0.5).

    `to_source` (2, 3) is a similarity that maps a drawn pixel to its place in `source`.
    Where it leads outside `source` the result is black or the border repeated: hand in `MARGIN` more.
    Values keep the scale of `source`, unrounded, and may overshoot 0 and 255 at sharp edges.
    """
    # One float channel at a time: Pillow's affine transform cuts the fractions off 8-bit results,
    # which would darken every face by half a grey level.
    drawn = [resample_plane(source[..., c].astype(np.float32), to_source, width, height) for c in range(3)]
    return np.stack(drawn, axis=-1)


def resample_plane(
    source: NDArray[np.float32], to_source: NDArray[np.float64], width: int, height: int
) -> NDArray[np.float32]:
    """The same of one channel: (height, width) float32 from `source` (H, W) float32."""
    return np.asarray(_resample_channel(Image.fromarray(source), to_source, width, height))


def _resample_channel(image: Image.Image, to_image: NDArray[np.float64], width: int, height: int) -> Image.Image:
    step = math.sqrt(abs(float(np.linalg.det(to_image[:, :2]))))  # source pixels per drawn pixel
    if step <= 1 + 1e-9:
        return _affine(image, to_image, width, height)

    # The affine transform reads a fixed 4 x 4 neighbourhood, so it must never shrink: draw at twice
    # the size, from a source shrunk until that is no shrinking, and halve the result. Both resizes
    # are antialiased, and what the first one removes the second would not keep.
    if step > 2:
        shrunk = (math.ceil(image.width * 2 / step), math.ceil(image.height * 2 / step))
        factor = np.array([[shrunk[0] / image.width], [shrunk[1] / image.height]])
        to_image = to_image * factor
        to_image[:, 2:] += 0.5 * factor - 0.5
        image = image.resize(shrunk, Image.Resampling.BICUBIC)
    # A pixel x of the double-size drawing lies at x / 2 - 0.25 of the final one.
    linear = to_image[:, :2]
    to_image = np.column_stack([linear / 2, to_image[:, 2] + linear @ np.full(2, -0.25)])
    drawn = _affine(image, to_image, 2 * width, 2 * height)
    return drawn.resize((width, height), Image.Resampling.BICUBIC)


def _affine(image: Image.Image, to_image: NDArray[np.float64], width: int, height: int) -> Image.Image:
    # Pillow counts from the corner of the first pixel, we from its centre.
    offset = to_image[:, 2] + 0.5 - to_image[:, :2] @ np.full(2, 0.5)
    (a, b), (d, e) = to_image[:, :2].tolist()
    c, f = offset.tolist()
    coefficients = (a, b, c, d, e, f)
    return image.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
