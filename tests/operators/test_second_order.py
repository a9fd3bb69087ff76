"""The second-order degradation: its steps measure what they say, and a draw can be made again from plain values."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from operators.degrade.second_order import FIRST, SECOND, Pass, SecondOrder, blur_anisotropic, draw_second_order
from operators.degrade.steps import RESAMPLINGS, add_noise


def picture(size: int = 96, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(size, size, 3)), (3, 3, 0))
    return np.asarray(np.clip(128 + 60 * smooth / smooth.std(), 0, 255), np.uint8)


@pytest.mark.parametrize(("angle", "rows", "columns"), [(0.0, 1.0, 3.0), (np.pi / 2, 3.0, 1.0)])
def test_an_anisotropic_kernel_spreads_a_point_along_its_axes(angle: float, rows: float, columns: float) -> None:
    point = np.zeros((41, 41, 1))
    point[20, 20] = 1
    spread = blur_anisotropic(point, (3.0, 1.0), angle)[..., 0]
    y, x = np.mgrid[-20:21, -20:21]
    assert spread.sum() == pytest.approx(1)
    assert (spread * y**2).sum() == pytest.approx(rows**2, rel=0.1)
    assert (spread * x**2).sum() == pytest.approx(columns**2, rel=0.1)
    assert abs((spread * x * y).sum()) < 0.01


def test_at_half_a_right_angle_the_axes_are_the_diagonals() -> None:
    point = np.zeros((41, 41, 1))
    point[20, 20] = 1
    spread = blur_anisotropic(point, (3.0, 1.0), np.pi / 4)[..., 0]
    y, x = np.mgrid[-20:21, -20:21]
    assert (spread * x * y).sum() == pytest.approx((9 - 1) / 2, rel=0.1)


@pytest.mark.parametrize("sigma", [(-1.0, 1.0), (1.0, 21.0)])
def test_a_sigma_out_of_range_is_refused(sigma: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="within 0 and 20"):
        blur_anisotropic(picture().astype(np.float32), sigma)


def test_grey_noise_has_no_colour_and_coloured_noise_has() -> None:
    flat = np.full((64, 64, 3), 128.0)
    for noise in ("gaussian", "laplace", "poisson"):
        grey = add_noise(flat, noise, 10, np.random.default_rng(0), grey=True)
        assert np.ptp(grey - flat, axis=-1).max() < 1e-9 and grey.std() == pytest.approx(10, rel=0.05)
        coloured = add_noise(flat, noise, 10, np.random.default_rng(0))
        assert np.ptp(coloured - flat, axis=-1).mean() > 5


def test_the_same_draw_and_noise_give_the_same_bytes_also_from_json() -> None:
    image = picture()
    for seed in range(20):
        drawn = draw_second_order(np.random.default_rng(seed))
        again = SecondOrder.from_json(json.loads(json.dumps(drawn.to_json())))
        assert again == drawn
        degraded = drawn.apply(image, np.random.default_rng(7))
        assert degraded.shape == image.shape and degraded.dtype == np.uint8
        assert np.array_equal(degraded, again.apply(image, np.random.default_rng(7)))


def test_draws_stay_in_their_ranges_and_reach_every_kind() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_second_order(rng) for _ in range(500)]
    for ranges, passes in ((FIRST, [d.first for d in drawn]), (SECOND, [d.second for d in drawn])):
        blurred = [p for p in passes if p.sigma != (0.0, 0.0)]
        assert len(blurred) / len(passes) == pytest.approx(ranges.blur, abs=0.06)
        assert sum(p.sigma[0] != p.sigma[1] for p in blurred) / len(blurred) == pytest.approx(0.5, abs=0.08)
        assert all(ranges.sigma[0] <= s <= ranges.sigma[1] for p in blurred for s in p.sigma)
        assert all(ranges.scale[0] <= p.scale <= ranges.scale[1] for p in passes)
        assert sum(p.scale < 1 for p in passes) / len(passes) == pytest.approx(ranges.shrink, abs=0.07)
        assert sum(p.scale > 1 for p in passes) / len(passes) == pytest.approx(ranges.enlarge, abs=0.06)
        assert {p.noise for p in passes} == {"gaussian", "poisson"}
        assert {p.resampling for p in passes} == set(RESAMPLINGS)
        assert sum(p.grey for p in passes) / len(passes) == pytest.approx(ranges.grey, abs=0.07)
    assert {d.back for d in drawn} == set(RESAMPLINGS)


def test_without_damage_the_image_survives() -> None:
    nothing = Pass((0.0, 0.0), 0.0, 1.0, "bicubic", "gaussian", 0.0, False, 95)
    image = np.repeat(picture()[..., :1], 3, axis=-1)  # grey: JPEG halves the resolution of colours
    same = SecondOrder(nothing, nothing, "bicubic").apply(image, np.random.default_rng(0))
    assert np.abs(same.astype(int) - image).mean() < 2
