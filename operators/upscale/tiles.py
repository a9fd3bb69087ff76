"""A photograph through a network in tiles: bounded memory, and no seam where they meet.

Each tile is seen with REACH pixels of its surroundings. The outermost of them are context and thrown away; over the
others neighbours fade into each other, linearly, so that a difference between them is spread over 2 BLEND pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.images import to_grey

BLEND = 16
"""Pixels of the photograph on either side of a border between tiles over which they fade into each other."""

REACH = 32
"""Pixels around a tile that the network sees; a multiple of what networks want sides to be multiples of."""


@dataclass(frozen=True)
class Span:
    """A tile along one axis of the photograph, in its pixels. seen: what the network gets; kept: what counts of it.

    fades: (where it begins to count, where it ends to), each the middle of a fade; None at the photograph's border.
    """

    seen: tuple[int, int]
    kept: tuple[int, int]
    fades: tuple[int | None, int | None]

    def weights(self, scale: int) -> NDArray[np.float32]:
        """((kept length) * scale,): how much each pixel of the result counts; those of all tiles add up to 1."""
        place = (np.arange((self.kept[1] - self.kept[0]) * scale) + 0.5) / scale + self.kept[0]
        weight = np.ones(len(place))
        begins, ends = self.fades
        if begins is not None:
            weight *= _rise(place, begins)
        if ends is not None:
            weight *= 1 - _rise(place, ends)
        return weight.astype(np.float32)


def spans(length: int, tile: int) -> list[Span]:
    """The tiles of `tile` pixels along an axis of `length` pixels; the last one may be smaller."""
    borders = [*range(0, length, tile), length]
    return [
        Span(
            seen=(max(0, begin - REACH), min(length, end + REACH)),
            kept=(max(0, begin - BLEND), min(length, end + BLEND)),
            fades=(begin if begin > 0 else None, end if end < length else None),
        )
        for begin, end in pairwise(borders)
    ]


def enlarge_in_tiles(
    photo: NDArray[np.uint8],
    network: Callable[[Tensor], Tensor],
    scale: int,
    tile: int,
    progress: Callable[[], None],
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (scale H, scale W, 3) uint8. What is grey everywhere comes back grey.

    network: (1, 3, h, w) float32 in [0, 1], on the CPU, to (1, 3, scale h, scale w) likewise. tile: pixels a side, more
    than 2 BLEND. progress: called before each tile. Memory beside photo and result: a tile's, and one row of tiles as
    float32.
    """
    height, width = photo.shape[:2]
    is_grey = bool((photo == photo[..., :1]).all())
    result = np.empty((height * scale, width * scale, 3), np.uint8)
    rows, columns = spans(height, tile), spans(width, tile)
    carried = np.zeros((0, width * scale, 3), np.float32)  # of the row above, to be faded into
    for place, row in enumerate(rows):
        top, bottom = row.kept
        band = np.zeros(((bottom - top) * scale, width * scale, 3), np.float32)
        for column in columns:
            progress()
            piece = _piece(photo, row, column, network, scale)
            left, right = column.kept
            band[:, left * scale : right * scale] += piece * column.weights(scale)[None, :, None]
        band *= row.weights(scale)[:, None, None]
        band[: len(carried)] += carried
        following = rows[place + 1].kept[0] if place + 1 < len(rows) else bottom
        finished = (following - top) * scale
        levels = np.clip(band[:finished] * 255 + 0.5, 0, 255).astype(np.uint8)
        result[top * scale : following * scale] = to_grey(levels) if is_grey else levels
        carried = band[finished:].copy()
    return result


def _piece(
    photo: NDArray[np.uint8], row: Span, column: Span, network: Callable[[Tensor], Tensor], scale: int
) -> NDArray[np.float32]:
    """What the network makes of a tile, as far as it counts: (h scale, w scale, 3) float32."""
    (top, bottom), (left, right) = row.seen, column.seen
    seen = torch.from_numpy(np.ascontiguousarray(photo[top:bottom, left:right])).permute(2, 0, 1)[None].float() / 255
    drawn = network(seen)[0].permute(1, 2, 0).numpy()
    y, x = (row.kept[0] - top) * scale, (column.kept[0] - left) * scale
    height, width = (row.kept[1] - row.kept[0]) * scale, (column.kept[1] - column.kept[0]) * scale
    return drawn[y : y + height, x : x + width]


def _rise(place: NDArray[np.float64], middle: int) -> NDArray[np.float64]:
    """0 below middle - BLEND, 1 above middle + BLEND, and a straight line between."""
    return np.clip((place - (middle - BLEND)) / (2 * BLEND), 0, 1)
