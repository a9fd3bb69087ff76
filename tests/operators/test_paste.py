"""Pasting back: what was cut out returns to its place, and nothing else moves."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from operators.detect.align import FFHQ_512, align, enlarge_photo, invert, resize_matrix
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


def round_mask(x: float, y: float, radius: float, side: int = 128) -> NDArray[np.float32]:
    """A disc, soft over 8 pixels of `side`, as a parser's mask is."""
    rows, columns = np.mgrid[0:side, 0:side]
    return np.clip((radius - np.hypot(columns - x, rows - y)) / 8 + 0.5, 0, 1).astype(np.float32)


def test_a_mask_says_what_of_a_crop_counts(photo: NDArray[np.uint8]) -> None:
    """Inside it the crop, outside it the photo to the bit, also where the ellipse of a face would reach."""
    _, matrix = align(photo, face_at(225, 140, 200, 10), 128)
    black = np.zeros((128, 128, 3), np.uint8)
    pasted = paste(photo, [(black, matrix)], masks=[round_mask(64, 70, 30)], match_colour=False)
    u, v = in_crop(photo.shape, matrix)
    away = np.hypot(u - 64, v - 70)
    assert (pasted[away < 24] == 0).all()
    assert np.array_equal(pasted[away > 37], photo[away > 37])
    assert (away[np.hypot((u - 63.5) / 56, (v - 67.3) / 57) < 0.6] > 37).sum() == 0
    by_ellipse = paste(photo, [(black, matrix)], match_colour=False)
    assert (by_ellipse[away > 37] != photo[away > 37]).any()


def test_hair_reaches_further_than_the_ellipse_and_the_crops_edge_never_shows(photo: NDArray[np.uint8]) -> None:
    plain = np.full((300, 300, 3), 100, np.uint8)
    _, matrix = align(plain, face_at(150, 150, 160, 25), 128)
    white = np.full((128, 128, 3), 200, np.uint8)
    everything = np.ones((128, 128), np.float32)
    pasted = paste(plain, [(white, matrix)], masks=[everything], match_colour=False)[..., 0].astype(int)
    u, v = in_crop(plain.shape, matrix)
    assert (pasted[(np.abs(u - 63.5) < 50) & (np.abs(v - 15) < 2)] == 200).all(), "hair, above the brows"
    assert (pasted[(np.minimum(u, v) < -1) | (np.maximum(u, v) > 128)] == 100).all()
    steps = max(np.abs(np.diff(pasted, axis=axis)).max() for axis in (0, 1))
    assert steps < 25, "100 levels fade over some pixels"


def test_with_a_mask_colour_stays_that_of_the_photo(photo: NDArray[np.uint8]) -> None:
    """A crop of another tint is shifted to the photo's: the mean colour of the skin changes by less than a level."""
    photo = photo // 2 + 50  # nothing is so dark or bright that its tint is cut off
    crop, matrix = align(photo, face_at(225, 140, 180), 256)
    tinted = (crop.astype(int) + np.array([12, -9, 5])).astype(np.uint8)
    mask = round_mask(64, 70, 35)
    pasted = paste(photo, [(tinted, matrix)], masks=[mask]).astype(float)
    u, v = in_crop(photo.shape, matrix)
    skin = np.hypot(u / 2 - 64, v / 2 - 70) < 30
    assert np.abs(pasted[skin].mean(axis=0) - photo[skin].mean(axis=0)).max() < 1
    unmatched = paste(photo, [(tinted, matrix)], masks=[mask], match_colour=False).astype(float)
    assert np.abs(unmatched[skin].mean(axis=0) - photo[skin].mean(axis=0)).max() > 10
    untinted = paste(photo, [(crop, matrix)], masks=[mask]).astype(float)
    assert np.abs(pasted - untinted).max() <= 3, "and no seam anywhere"


def test_masked_faces_that_overlap_reproduce_the_photo_in_any_order(photo: NDArray[np.uint8]) -> None:
    faces = [align(photo, face_at(x, 140, 180), 256) for x in (190, 240, 290)]
    masks = [round_mask(64, 70, 40), None, np.ones((128, 128), np.float32)]
    pasted = paste(photo, faces, masks=masks)
    assert np.abs(pasted.astype(int) - photo).mean() < 0.7
    backwards = paste(photo, faces[::-1], masks=masks[::-1])
    assert np.abs(pasted.astype(int) - backwards).max() <= 1


def test_a_mask_of_nothing_changes_nothing(photo: NDArray[np.uint8]) -> None:
    crop, matrix = align(photo, face_at(225, 140, 180), 128)
    assert np.array_equal(paste(photo, [(255 - crop, matrix)], masks=[np.zeros((128, 128), np.float32)]), photo)


def test_a_face_lands_on_its_place_in_an_enlarged_photo() -> None:
    """A dot on the crop appears where it would have, at the enlarged photo's scale."""
    small = np.full((120, 140, 3), 20, np.uint8)
    _, matrix = align(small, face_at(70, 60, 80, 20), 128)
    y, x = np.mgrid[0:128, 0:128]
    dot = np.repeat((20 + 200 * np.exp(-((x - 70) ** 2 + (y - 60) ** 2) / 30)).astype(np.uint8)[..., None], 3, axis=-1)
    back = invert(matrix)
    place = back[:, :2] @ [70, 60] + back[:, 2]
    for scale in (2, 4):
        large = np.full((120 * scale, 140 * scale, 3), 20, np.uint8)
        change = paste(large, [(dot, enlarge_photo(matrix, scale))], match_colour=False)[..., 0].astype(float) - 20
        rows, columns = np.mgrid[0 : len(large), 0 : large.shape[1]]
        found = np.array([(columns * change).sum(), (rows * change).sum()]) / change.sum()
        assert np.allclose(found, (place + 0.5) * scale - 0.5, atol=0.1 * scale)


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
    with pytest.raises(ValueError, match="mask"):
        paste(photo, [(np.zeros((64, 64, 3), np.uint8), np.eye(2, 3))], masks=[np.zeros((8, 9), np.float32)])
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
