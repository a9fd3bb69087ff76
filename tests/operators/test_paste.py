"""Pasting back: what was cut out returns to its place, and nothing else moves."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from operators.detect.align import FFHQ_512, align, invert, resize_matrix
from operators.detect.paste import face_mask, paste
from operators.images import to_grey


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return np.asarray(data.astronaut())


def face_at(x: float, y: float, face: float, degrees: float = 0) -> NDArray[np.float64]:
    a = math.radians(degrees)
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) * (face / 512)
    return (FFHQ_512 - 255.5) @ turn.T + [x, y]


def in_crop(shape: tuple[int, ...], matrix: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Crop coordinates of every pixel of a photo."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    (a, b, c), (d, e, f) = matrix
    return a * x + b * y + c, d * x + e * y + f


@pytest.mark.parametrize("degrees", [0, 15, -100])
@pytest.mark.parametrize(("face", "size"), [(180, 256), (180, 512), (128, 128), (60, 256)])
def test_unchanged_crop_reproduces_the_photo(photo: NDArray[np.uint8], face: float, size: int, degrees: float) -> None:
    crop, matrix = align(photo, face_at(225, 140, face, degrees), size)
    pasted = paste(photo, [(crop, matrix)])
    difference = np.abs(pasted.astype(int) - photo)
    assert difference[pasted != photo].mean() < 4
    error = np.square(difference[100:180, 185:265]).mean()
    assert 10 * math.log10(255**2 / max(error, 1e-9)) > 35


def test_crop_lands_where_it_was_cut(photo: NDArray[np.uint8]) -> None:
    """A dot painted on the crop appears in the photo where the inverse matrix says."""
    _, matrix = align(photo, face_at(225, 140, 200, 20), 256)
    spot = np.array([150, 110])
    y, x = np.mgrid[0:256, 0:256]
    dot = 200 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 30)
    plain = np.full_like(photo, 20)
    painted = np.repeat((20 + dot).round().astype(np.uint8)[..., None], 3, axis=-1)
    change = paste(plain, [(painted, matrix)], match_colour=False)[..., 0].astype(float) - 20
    rows, columns = np.mgrid[0 : photo.shape[0], 0 : photo.shape[1]]
    found = np.array([(columns * change).sum(), (rows * change).sum()]) / change.sum()
    back = invert(matrix)
    assert np.allclose(found, back[:, :2] @ spot + back[:, 2], atol=0.1)
    # The same crop, enlarged, with the matrix that follows it, is the same picture on the photo.
    enlarged = np.repeat(np.repeat(painted, 2, axis=0), 2, axis=1)
    twice = paste(plain, [(enlarged, resize_matrix(matrix, 256, 512))], match_colour=False)
    assert np.abs(twice[..., 0] - 20 - change).mean() < 0.1


def test_outside_the_mask_is_bit_identical_and_the_input_untouched(photo: NDArray[np.uint8]) -> None:
    before = photo.copy()
    _, matrix = align(photo, face_at(225, 140, 200, 30), 128)
    pasted = paste(photo, [(np.zeros((128, 128, 3), np.uint8), matrix)], match_colour=False)
    u, v = in_crop(photo.shape, matrix)
    outside = (u < 0) | (u > 127) | (v < 0) | (v > 127)
    assert np.array_equal(pasted[outside], photo[outside])
    assert np.array_equal(photo, before)
    centre = np.hypot(u - 64, v - 68) < 30
    assert (pasted[centre] == 0).all()


def test_mask_is_zero_at_the_border_one_inside_and_smooth() -> None:
    mask = face_mask(256)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() == 0
    eyes_and_mouth = (FFHQ_512 / 2).round().astype(int)
    assert (mask[eyes_and_mouth[:, 1], eyes_and_mouth[:, 0]] == 1).all()
    assert max(np.abs(np.diff(mask, axis=axis)).max() for axis in (0, 1)) < 0.05


def test_uniform_change_of_colour_leaves_no_seam(photo: NDArray[np.uint8]) -> None:
    crop, matrix = align(photo, face_at(225, 140, 180), 256)
    tinted = np.clip(crop.astype(int) + np.array([12, -9, 5]), 0, 255).astype(np.uint8)
    reference = paste(photo, [(crop, matrix)]).astype(int)
    matched = np.abs(paste(photo, [(tinted, matrix)]) - reference).mean()
    unmatched = np.abs(paste(photo, [(tinted, matrix)], match_colour=False) - reference).mean()
    assert matched < unmatched / 10


def test_grey_stays_grey(photo: NDArray[np.uint8]) -> None:
    grey = to_grey(photo)
    crop, matrix = align(grey, face_at(225, 140, 180, 8), 256)
    brighter = np.clip(crop.astype(int) + 15, 0, 255).astype(np.uint8)
    pasted = paste(grey, [(brighter, matrix)])
    assert np.array_equal(pasted, to_grey(pasted))


def test_overlapping_faces_reproduce_the_photo_in_any_order(photo: NDArray[np.uint8]) -> None:
    faces = [align(photo, face_at(x, 140, 180), 256) for x in (190, 240, 290)]
    pasted = paste(photo, faces)
    assert np.abs(pasted.astype(int) - photo).mean() < 0.5
    assert np.abs(pasted.astype(int) - paste(photo, faces[::-1])).max() <= 1


def test_each_of_two_overlapping_faces_rules_its_own_middle() -> None:
    plain = np.full((300, 400, 3), 128, np.uint8)
    faces = []
    for x, colour in ((150, (200, 0, 0)), (230, (0, 0, 200))):
        _, matrix = align(plain, face_at(x, 150, 160), 128)
        faces.append((np.full((128, 128, 3), colour, np.uint8), matrix))
    pasted = paste(plain, faces, match_colour=False)
    assert pasted[150, 130].tolist() == [200, 0, 0]
    assert pasted[150, 250].tolist() == [0, 0, 200]
    halfway = pasted[154, 190].astype(int)  # between them, a mixture and nothing of the photo's green
    assert np.abs(halfway - [100, 0, 100]).max() < 20


@pytest.mark.parametrize(("x", "y"), [(0, 0), (511, 250), (250, 511), (-60, 100), (2000, 2000)])
def test_faces_at_and_beyond_the_border(photo: NDArray[np.uint8], x: float, y: float) -> None:
    crop, matrix = align(photo, face_at(x, y, 150, 5), 128)
    pasted = paste(photo, [(crop, matrix)])
    assert np.abs(pasted.astype(int) - photo).max() < 60
    assert np.abs(pasted.astype(int) - photo).mean() < 0.5


def test_fine_crop_is_antialiased_on_a_coarse_photo() -> None:
    plain = np.full((200, 200, 3), 128, np.uint8)
    _, matrix = align(plain, face_at(100, 100, 80), 512)
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    pasted = paste(plain, [(stripes, matrix)])
    assert np.abs(pasted.astype(int) - 128).max() <= 3


def test_large_face_is_pasted_in_bands(photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    face = align(photo, face_at(250, 250, 400, 12), 256)
    whole = paste(photo, [face])
    monkeypatch.setattr("operators.detect.paste._BAND", 5000)
    assert np.abs(paste(photo, [face]).astype(int) - whole).max() <= 1


def test_nothing_to_paste(photo: NDArray[np.uint8]) -> None:
    assert np.array_equal(paste(photo, []), photo)


def test_wrong_shapes_are_refused(photo: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="must be"):
        paste(photo, [(np.zeros((64, 32, 3), np.uint8), np.eye(2, 3))])
    with pytest.raises(ValueError, match="feather"):
        paste(photo, [], feather=0)


def test_group_photo_is_quick() -> None:
    """29 faces of a 2732 x 1066 photo: well under a second of processor time on one slow core."""
    rng = np.random.default_rng(5)
    group = rng.integers(0, 256, (1066, 2732, 3), dtype=np.uint8)
    faces = [align(group, face_at(90 * k + 100, 500, 180), 256) for k in range(29)]
    start = time.process_time()
    paste(group, faces)
    assert time.process_time() - start < 5
