"""Tiles of the image pyramid: every pixel of every level has one owner, and coordinates lead back to the photo."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from operators.detect import pyramid
from operators.detect.pyramid import COARSEST_SIDE, Tile, tiles


def by_level(found: list[Tile]) -> dict[tuple[float, float], list[Tile]]:
    levels = defaultdict(list)
    for tile in found:
        levels[tile.scale].append(tile)
    return levels


@pytest.mark.parametrize("shape", [(1, 1), (64, 200), (1024, 1025), (1500, 2900)])
def test_cores_cover_each_level_once(shape: tuple[int, int]) -> None:
    photo = np.zeros((*shape, 3), np.uint8)
    for level in by_level(list(tiles(photo))).values():
        width = max(tile.origin[0] + tile.pixels.shape[1] for tile in level)
        height = max(tile.origin[1] + tile.pixels.shape[0] for tile in level)
        owners = np.zeros((height, width), int)
        for tile in level:
            x0, y0, x1, y1 = tile.core
            owners[tile.origin[1] + y0 : tile.origin[1] + y1, tile.origin[0] + x0 : tile.origin[0] + x1] += 1
        assert (owners == 1).all()


def test_levels_halve_until_a_face_that_fills_the_photo_fits() -> None:
    levels = by_level(list(tiles(np.zeros((500, 700, 3), np.uint8))))
    assert [scale[0] for scale in levels] == [1, 2, 4, 8]
    smallest = levels[(8.0, 8.0)][0].pixels
    assert max(smallest.shape) <= COARSEST_SIDE


def test_memory_is_bounded_by_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "LONGEST_SIDE", 1200)
    found = list(tiles(np.zeros((30, 5000, 3), np.uint8)))
    assert max(max(tile.pixels.shape[:2]) for tile in found) <= pyramid.TILE
    finest = found[0]
    # The far end of the finest level is the far end of the photo, between pixel centres at integers.
    last = [tile for tile in found if tile.scale == finest.scale][-1]
    end = last.to_photo(np.array([last.pixels.shape[1] - 0.5, last.pixels.shape[0] - 0.5], np.float32))
    np.testing.assert_allclose(end, [4999.5, 29.5], atol=1e-2)


def test_a_spot_is_where_the_coordinates_say() -> None:
    photo = np.zeros((1300, 1300, 3), np.uint8)
    spot = np.array([1127.5, 631.5])
    photo[624:640, 1120:1136] = 255
    seen = 0
    for tile in tiles(photo):
        ys, xs = np.nonzero(tile.pixels[..., 0] > 200)
        if len(xs) and tile.scale[0] <= 8:
            seen += 1
            found = tile.to_photo(np.array([xs.mean(), ys.mean()], np.float32))
            np.testing.assert_allclose(found, spot, atol=1e-3)
    assert seen >= 4
