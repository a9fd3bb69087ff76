"""Alignment: landmarks land on the template, at any size, without aliasing or dark borders."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from operators.detect.align import (
    FFHQ_512,
    AlignError,
    align,
    invert,
    resize_matrix,
    similarity,
    template,
    warp,
)


def landmarks_at(x: float, y: float, face: float, degrees: float = 0) -> NDArray[np.float64]:
    """The template as a face whose crop would be `face` photo pixels wide, centred at (x, y), turned."""
    a = math.radians(degrees)
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) * (face / 512)
    return (FFHQ_512 - 255.5) @ turn.T + [x, y]


def waves(height: int, width: int, period: float) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    grey = 127.5 + 100 * np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period)
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=-1)


def apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


def test_similarity_recovers_what_was_done() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(5, 2)) * 40
    for degrees, scale in [(0, 1), (30, 0.2), (-170, 3), (90, 11)]:
        a = math.radians(degrees)
        done = np.array([[math.cos(a), -math.sin(a), 5], [math.sin(a), math.cos(a), -7]])
        done[:, :2] *= scale
        assert np.allclose(similarity(points, apply(done, points)), done)


def test_similarity_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(2)
    src, dst = rng.normal(size=(2, 5, 2)) * 30
    # The same problem as a plain linear one: x' = a x - b y + c, y' = b x + a y + d.
    x, y = src.T
    zero, one = np.zeros(5), np.ones(5)
    rows = np.vstack([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
    a, b, c, d = np.linalg.lstsq(rows, dst.T.ravel(), rcond=None)[0]
    assert np.allclose(similarity(src, dst), [[a, -b, c], [b, a, d]])


def test_similarity_never_reflects() -> None:
    mirrored = FFHQ_512 * [-1, 1]
    assert np.linalg.det(similarity(mirrored, FFHQ_512)[:, :2]) > 0


@pytest.mark.parametrize(
    "landmarks", [np.full((5, 2), 9.0), np.full((5, 2), np.nan), landmarks_at(1e7, 0, 300), FFHQ_512 * 1e6]
)
def test_landmarks_that_make_no_face_are_refused(landmarks: NDArray[np.float64]) -> None:
    with pytest.raises(AlignError) as caught:
        align(waves(60, 80, 20), landmarks, 64)
    assert caught.value.code == "face.degenerate"


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_landmarks_map_to_the_template(size: int) -> None:
    landmarks = landmarks_at(200, 150, 180, degrees=25)
    crop, matrix = align(waves(300, 400, 40), landmarks, size)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    assert np.allclose(apply(matrix, landmarks), template(size), atol=1e-9)


def test_template_and_matrix_follow_a_resized_crop() -> None:
    landmarks = landmarks_at(200, 150, 180, degrees=-10)
    assert np.array_equal(template(512), FFHQ_512)
    at_128 = similarity(landmarks, template(128))
    assert np.allclose(resize_matrix(at_128, 128, 256), similarity(landmarks, template(256)))
    # Block means of the big crop are the small crop: neither is displaced.
    photo = waves(300, 400, 60)
    small = warp(photo, at_128, 128).astype(float)
    big = warp(photo, resize_matrix(at_128, 128, 256), 256).astype(float)
    assert np.abs(big.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3)) - small).mean() < 0.5


def test_invert_is_the_way_back() -> None:
    matrix = similarity(landmarks_at(31, 77, 90, degrees=40), template(128))
    points = np.array([[0.0, 0.0], [10.0, 90.0], [-5.0, 3.5]])
    assert np.allclose(apply(invert(matrix), apply(matrix, points)), points)


@pytest.mark.parametrize("size", [100, 75, 50, 30])
def test_upright_crop_is_the_photo_at_that_size(size: int) -> None:
    """A smooth photo is sampled where the matrix says, to a fraction of a grey level."""
    photo = waves(200, 200, 90)
    matrix = np.array([[size / 100, 0, 0], [0, size / 100, 0]])
    matrix[:, 2] = 0.5 * size / 100 - 0.5 - size / 100 * 50  # the crop starts at (50, 50)
    at = (np.arange(size) + 0.5) * 100 / size - 0.5 + 50
    wave = np.sin(2 * np.pi * at / 90)
    expected = 127.5 + 100 * wave[:, None] * wave[None, :]
    difference = warp(photo, matrix, size)[..., 0] - expected
    assert np.abs(difference).max() < 2
    assert abs(difference.mean()) < 0.1


def test_identity_is_exact() -> None:
    photo = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(warp(photo, np.eye(2, 3), 64), photo)


@pytest.mark.parametrize("degrees", [0, 20])
def test_shrinking_does_not_alias(degrees: float) -> None:
    """Detail too fine for the crop becomes grey, not a coarse pattern."""
    crop, _ = align(waves(800, 800, 3), landmarks_at(400, 400, 500, degrees), 64)
    assert crop[2:-2, 2:-2].std() < 3


def test_border_is_mirrored() -> None:
    photo = np.random.default_rng(4).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    shifted = warp(photo, np.array([[1.0, 0, 10], [0, 1.0, 5]]), 40)
    assert np.array_equal(shifted[5:, 10:], photo[:35, :30])
    assert np.array_equal(shifted[5:, :10], photo[:35, 10:0:-1])
    assert np.array_equal(shifted[:5, 10:], photo[5:0:-1, :30])


def test_tiny_photo() -> None:
    photo = np.full((1, 1, 3), 77, dtype=np.uint8)
    assert (align(photo, landmarks_at(0, 0, 40), 64)[0] == 77).all()
