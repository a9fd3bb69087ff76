"""Whole photographs, larger: networks in tiles show no seam, and say what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from upscalers import compact, rrdb

from operators.images import to_grey
from operators.training.weights import WeightsError
from operators.upscale.network import NetworkUpscaler, read_model
from operators.upscale.registry import load
from operators.upscale.tiles import BLEND, enlarge_in_tiles, spans


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """85 x 139 pixels: no multiple of any tile."""
    return np.ascontiguousarray(data.astronaut()[90:175, 160:299])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("upscalers")
    return {
        "x4": rrdb(folder / "x4.pth"),
        "x2": rrdb(folder / "x2.pth", scale=2),
        "compact": compact(folder / "compact.pth"),
    }


@pytest.mark.parametrize(("name", "scale"), [("x4", 4), ("x2", 2), ("compact", 4)])
def test_tiled_is_untiled_to_a_grey_level(weights: dict[str, Path], photo: NDArray[np.uint8], name: str, scale: int):
    whole = load(str(weights[name]), scale, tile=256).enlarge(photo)
    tiled = load(str(weights[name]), scale, tile=64).enlarge(photo)
    assert whole.shape == tiled.shape == (85 * scale, 139 * scale, 3)
    assert whole.std() > 10, "the network drew something"
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_one_tile_is_what_the_network_gives(weights: dict[str, Path], photo: NDArray[np.uint8]):
    ours = load(str(weights["x4"]), 4, tile=256).enlarge(photo)
    seen = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    theirs = read_model(weights["x4"])(seen)[0].permute(1, 2, 0).numpy()
    assert np.abs(theirs * 255 - ours).max() <= 0.5 + 1e-3


def test_a_network_for_4_times_gives_2_by_means_of_4_pixels(weights: dict[str, Path], photo: NDArray[np.uint8]):
    larger = load(str(weights["x4"]), 4, tile=128).enlarge(photo).astype(float)
    means = larger.reshape(85 * 2, 2, 139 * 2, 2, 3).mean(axis=(1, 3))
    assert np.abs(load(str(weights["x4"]), 2, tile=128).enlarge(photo) - means).max() <= 1


def test_a_difference_between_tiles_is_spread_and_shows_no_seam():
    """A network that makes each tile as bright as it pleases, the worst there is."""
    levels = cycle([0.2, 0.8])

    def moody(seen: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 3, 2 * seen.shape[2], 2 * seen.shape[3]), float(next(levels)))

    larger = enlarge_in_tiles(np.zeros((300, 200, 3), np.uint8), moody, 2, 64, lambda: None).astype(int)
    assert larger.max() - larger.min() > 120
    steps = max(np.abs(np.diff(larger, axis=axis)).max() for axis in (0, 1))
    assert steps <= 0.6 * 255 / (2 * BLEND * 2) + 1  # no steeper than the whole range over one fade


@pytest.mark.parametrize("length", [1, 15, 64, 65, 128, 200, 1000])
def test_the_tiles_weights_add_up_to_one_everywhere(length: int):
    total = np.zeros(length * 2)
    for span in spans(length, 64):
        total[span.kept[0] * 2 : span.kept[1] * 2] += span.weights(2)
        assert span.seen[0] <= span.kept[0] < span.kept[1] <= span.seen[1]
        assert span.seen[0] % 32 == 0, "networks that fold the photo see it folded alike in every tile"
    assert np.allclose(total, 1, atol=1e-6)


def test_memory_is_bounded_by_the_tile_and_each_is_told(photo: NDArray[np.uint8]):
    seen: list[tuple[int, ...]] = []
    beats: list[None] = []

    def watched(tile: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(tile.shape[2:]))
        return tile

    enlarge_in_tiles(np.zeros((1000, 700, 3), np.uint8), watched, 1, 128, lambda: beats.append(None))
    assert max(max(shape) for shape in seen) == 128 + 2 * 32
    assert len(beats) == len(seen) == 8 * 6


def test_grey_stays_grey(weights: dict[str, Path], photo: NDArray[np.uint8]):
    grey = to_grey(photo)
    for source in ("bicubic", str(weights["x4"])):
        larger = load(source, 4).enlarge(grey)
        assert np.array_equal(larger, to_grey(larger)), source


def test_bicubic_is_pillows_and_leaves_a_flat_photo_flat(photo: NDArray[np.uint8]):
    larger = load("bicubic", 2).enlarge(photo)
    assert larger.shape == (170, 278, 3)
    small = np.asarray(Image.fromarray(larger).resize((139, 85), Image.Resampling.BOX)).astype(int)
    assert np.abs(small - photo).mean() < 1.5
    assert (load("bicubic", 4).enlarge(np.full((5, 7, 3), 9, np.uint8)) == 9).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (3, 2)])
def test_tiny_photos_go_through(weights: dict[str, Path], shape: tuple[int, int]):
    for name, scale in (("x2", 2), ("x4", 4)):
        larger = load(str(weights[name]), scale, tile=64).enlarge(np.full((*shape, 3), 128, np.uint8))
        assert larger.shape == (shape[0] * scale, shape[1] * scale, 3)


def test_the_weights_are_told_by_name_and_hash(weights: dict[str, Path]):
    upscaler = load(str(weights["x2"]), 2)
    assert (upscaler.name, upscaler.scale, len(upscaler.fingerprint)) == ("x2.pth", 2, 64)
    assert load("bicubic", 2).fingerprint == ""


def test_no_numbers_are_an_error(weights: dict[str, Path], photo: NDArray[np.uint8]):
    upscaler = load(str(weights["x4"]), 4)
    assert isinstance(upscaler, NetworkUpscaler)
    next(upscaler.model.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(ArithmeticError, match="no numbers"):
        upscaler.enlarge(photo)


def other_network(path: Path) -> Path:
    torch.save({"some.weight": torch.zeros(3)}, path)
    return path


def denoiser(path: Path) -> Path:
    return compact(path, scale=1)


def cut(path: Path) -> Path:
    data_ = rrdb(path).read_bytes()
    path.write_bytes(data_[: len(data_) // 2])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "weights not found"),
        (other_network, "no network that spandrel knows; its tensors are called some.weight"),
        (denoiser, "a network for Restoration .*; name one for super-resolution"),
        (cut, "is cut"),
        (lambda path: rrdb(path, scale=2), "enlarges 2 times, which does not give 4 times"),
    ],
)
def test_what_cannot_enlarge_is_told_in_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str):
    with pytest.raises(WeightsError, match=message) as raised:
        load(str(make(tmp_path / "weights.pth")), 4)
    assert "\n" not in str(raised.value) and "weights.pth" in str(raised.value)


def test_a_tile_is_a_multiple_of_what_is_seen_around_it(weights: dict[str, Path]):
    with pytest.raises(WeightsError, match="multiple of 32, not 100"):
        load(str(weights["x4"]), 4, tile=100)
