"""An image pyramid cut into tiles, so that one network sees faces of every size in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 4096
"""The finest scan is at most this long: in a larger scan of a print a face of 10 pixels is only grain."""

COARSEST_SIDE = 128
"""Halving stops at the first level no longer than this: a face that fills the photo fits the network there."""

TILE = 1024
MARGIN = 128
"""Tiles are TILE pixels square and overlap; each answers for its pixels at least MARGIN from a cut edge, a
little more than the largest face the network finds."""


@dataclass(frozen=True)
class Tile:
    """A part of one level of the pyramid.

    pixels: (h, w, 3) uint8, h and w at most TILE.
    origin: (x, y) of its first pixel in the level.
    core: (x0, y0, x1, y1) in tile pixels: cells centred in it are this tile's to answer.
    scale: (x, y) photo pixels per level pixel.
    """

    pixels: NDArray[np.uint8]
    origin: tuple[int, int]
    core: tuple[int, int, int, int]
    scale: tuple[float, float]

    def to_photo(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (..., 2) of the tile as photo pixels, pixel centres at integers in both."""
        return ((points + self.origin + 0.5) * self.scale - 0.5).astype(np.float32)


def tiles(photo: NDArray[np.uint8]) -> Iterator[Tile]:
    """Tiles of every level of a photo (H, W, 3) uint8, finest level first; each level half the one before."""
    image = Image.fromarray(photo)
    finest = min(1.0, LONGEST_SIDE / max(image.size))
    level = image
    scale = (1.0, 1.0)
    if finest < 1.0:
        size = (max(1, round(image.width * finest)), max(1, round(image.height * finest)))
        level = image.resize(size, Image.Resampling.BOX)
        scale = (image.width / size[0], image.height / size[1])
    while True:
        yield from _cut(np.asarray(level), scale)
        if max(level.size) <= COARSEST_SIDE:
            return
        # reduce() pads an odd side, so that a level's pixel is always exactly two by two of the one before.
        level = level.reduce(2)
        scale = (2 * scale[0], 2 * scale[1])


def _cut(level: NDArray[np.uint8], scale: tuple[float, float]) -> Iterator[Tile]:
    height, width = level.shape[:2]
    for y0, y1, top, bottom in _spans(height):
        for x0, x1, left, right in _spans(width):
            yield Tile(level[y0:y1, x0:x1], (x0, y0), (left - x0, top - y0, right - x0, bottom - y0), scale)


def _spans(length: int) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, core start, core end) of the tiles along one side."""
    start = 0
    while True:
        end = min(length, start + TILE)
        last = end == length
        yield start, end, 0 if start == 0 else start + MARGIN, length if last else end - MARGIN
        if last:
            return
        start += TILE - 2 * MARGIN
