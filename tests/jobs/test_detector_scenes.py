"""Composed training images: labels stay on the face through scale, turn, mirror and occlusion."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jobs.training.ageing import RUINED, age, ruin
from jobs.training.close_ups import TURNED_WEIGHT, close_up, sideways, weighted
from jobs.training.faces import LabelledPhoto
from jobs.training.scenes import (
    FLIPPED,
    Canvas,
    Placement,
    Portrait,
    background,
    compose,
    faceless_region,
    prepare,
    shown,
)
from operators.detect.landmarks import CLOSE_UP

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]], np.uint8)
"""One per landmark."""

POINTS = np.array([[75, 90], [125, 90], [100, 120], [80, 145], [120, 145]], np.float32)
BOX = (50.0, 50.0, 150.0, 170.0)


def painted(width: int = 240, height: int = 300) -> LabelledPhoto:
    """A grey portrait with a coloured spot at each landmark."""
    pixels = np.full((height, width, 3), 120, np.uint8)
    for (x, y), colour in zip(POINTS.astype(int), COLOURS, strict=True):
        pixels[y - 7 : y + 8, x - 7 : x + 8] = colour
    return LabelledPhoto("painted", pixels, POINTS, BOX)


@pytest.fixture
def portrait() -> Portrait:
    return prepare([painted()])[0]


def place(portrait: Portrait, **changes: object) -> Placement:
    fields: dict = {"size": 60.0, "middle": (128.0, 128.0), "angle": 0.0, "mirror": False, "cut_out": False}
    return Placement(portrait, **(fields | changes))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("size", "angle"), [(30.0, 0.0), (80.0, 0.35), (150.0, -0.25)])
@pytest.mark.parametrize("cut_out", [False, True])
def test_landmarks_lie_on_their_spots(
    portrait: Portrait, size: float, angle: float, mirror: bool, cut_out: bool
) -> None:
    canvas = Canvas(Image.new("RGB", (256, 256)))
    canvas.paste(place(portrait, size=size, angle=angle, mirror=mirror, cut_out=cut_out), np.random.default_rng(0))
    labels = canvas.labels()
    pixels = np.asarray(canvas.image)
    # In a mirrored face the viewer's left eye is the other eye, so it has the other colour.
    wanted = COLOURS[list(FLIPPED)] if mirror else COLOURS
    for (x, y), colour in zip(labels.landmarks[0], wanted, strict=True):
        np.testing.assert_allclose(pixels[round(float(y)), round(float(x))], colour, atol=70)
    assert labels.landmarks[0, 0, 0] < labels.landmarks[0, 1, 0]


def test_the_box_has_the_asked_size_and_place(portrait: Portrait) -> None:
    canvas = Canvas(Image.new("RGB", (256, 256)))
    canvas.paste(place(portrait, size=64.0, middle=(100.0, 120.0)), np.random.default_rng(0))
    box = canvas.labels().boxes[0]
    assert np.sqrt((box[2:] - box[:2]).prod()) == pytest.approx(64, rel=0.02)
    np.testing.assert_allclose((box[:2] + box[2:]) / 2, [99.5, 119.5], atol=0.5)


def test_a_hidden_face_is_taken_back_and_a_half_hidden_one_is_unsure(portrait: Portrait) -> None:
    def after(middle: tuple[float, float]) -> list[bool]:
        canvas = Canvas(Image.new("RGB", (256, 256)))
        canvas.paste(place(portrait, cut_out=True), np.random.default_rng(0))
        canvas.paste(place(portrait, cut_out=True, middle=middle), np.random.default_rng(1))
        return canvas.labels().sure.tolist()

    assert after((128.0, 128.0)) == [True]
    assert after((160.0, 128.0)) == [False, True]
    assert after((230.0, 128.0)) == [True, True]


def test_a_face_cut_by_the_border_is_unsure(portrait: Portrait) -> None:
    canvas = Canvas(Image.new("RGB", (256, 256)))
    canvas.paste(place(portrait, middle=(0.0, 128.0)), np.random.default_rng(0))
    assert canvas.labels().sure.tolist() == [False]


def test_backgrounds_avoid_the_face(portrait: Portrait) -> None:
    for seed in range(20):
        x0, y0, x1, y1 = faceless_region(portrait, np.random.default_rng(seed))
        bx0, by0, bx1, by1 = portrait.box
        assert x1 <= bx0 or x0 >= bx1 or y1 <= by0 or y0 >= by1
        # Spots are coloured, the rest of the portrait and every noise background of it is not that red.
        image = background([portrait], 64, np.random.default_rng((1, seed)))
        assert image.size == (64, 64)


def test_scenes_repeat_from_their_seed(portrait: Portrait) -> None:
    for seed in range(8):
        (a, labels_a), (b, labels_b) = (compose([portrait], 128, np.random.default_rng(seed)) for _ in range(2))
        assert a.tobytes() == b.tobytes()
        np.testing.assert_array_equal(labels_a.boxes, labels_b.boxes)


def test_scenes_cover_small_and_large_faces(portrait: Portrait) -> None:
    sizes = []
    for seed in range(40):
        _, labels = compose([portrait], 256, np.random.default_rng(seed))
        sizes += np.sqrt((labels.boxes[:, 2:] - labels.boxes[:, :2]).prod(axis=1)).tolist()
    assert min(sizes) < 20
    assert max(sizes) > 100


def test_close_ups_keep_the_landmarks_inside(portrait: Portrait) -> None:
    for seed in range(20):
        pixels, points = close_up([portrait], np.random.default_rng(seed))
        assert pixels.shape == (CLOSE_UP, CLOSE_UP, 3)
        assert points.shape == (5, 2)
        assert points.min() > 0
        assert points.max() < CLOSE_UP - 1


@pytest.mark.parametrize("size", [50.0, 27.0])
def test_a_shrunken_paste_of_an_odd_sized_photo_lies_where_it_should(size: float) -> None:
    """A halved copy of 241 pixels is 121 wide and still starts where the photo does."""
    photo = painted(241, 301)
    canvas = Canvas(Image.new("RGB", (256, 256)))
    portrait = prepare([photo])[0]
    assert portrait.levels[1].width * 2 == portrait.levels[0].width + 1
    canvas.paste(place(portrait, size=size), np.random.default_rng(0))
    (nose,) = canvas.labels().landmarks[:, 2]
    blue = np.asarray(canvas.image)[..., 2].astype(float) - np.asarray(canvas.image)[..., 0]
    ys, xs = np.mgrid[:256, :256]
    near = (np.hypot(xs - nose[0], ys - nose[1]) < size / 9) * np.clip(blue, 0, None)
    middle = np.array([(near * xs).sum(), (near * ys).sum()]) / near.sum()
    np.testing.assert_allclose(middle, nose, atol=0.1)


def test_turned_heads_are_drawn_more_often(portrait: Portrait) -> None:
    assert sideways(POINTS) == pytest.approx(0.5)
    aside = POINTS.copy()
    aside[2, 0] = 128
    assert sideways(aside) == pytest.approx(1.06)
    turned = prepare([LabelledPhoto("turned", painted().pixels, aside, BOX)])[0]
    assert weighted([portrait, turned]) == [portrait] + TURNED_WEIGHT * [turned]


@pytest.mark.parametrize(
    ("box", "share"), [(BOX, 1.0), ((-50.0, 0.0, 50.0, 100.0), 0.5), ((-240.0, -300.0, 480.0, 600.0), 1 / 9)]
)
def test_how_much_of_a_box_its_photo_shows(box: tuple[float, float, float, float], share: float) -> None:
    assert shown(LabelledPhoto("any", painted().pixels, POINTS, box)) == pytest.approx(share)
    assert shown(LabelledPhoto("bare", painted().pixels, None, None)) == 0.0


def test_ruin_ages_or_degrades_and_spares_faces_too_small_for_it() -> None:
    image = background([prepare([painted()])[0]], 96, np.random.default_rng(0))

    def ruined(detail: float) -> int:
        count = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            rng.random()  # the choice between the two
            count += ruin(image, detail, np.random.default_rng(seed)).tobytes() != age(image, detail, rng).tobytes()
        return count

    assert ruined(31.0) == 0
    assert 0.5 * RUINED < ruined(44.0) / 60 < 1.5 * RUINED


def test_unlabelled_photos_are_left_out_and_none_at_all_is_an_error() -> None:
    bare = LabelledPhoto("bare", np.zeros((64, 64, 3), np.uint8), None, None)
    assert len(prepare([bare, painted()])) == 1
    with pytest.raises(ValueError, match="landmarks5"):
        prepare([bare])


def test_ageing_changes_pixels_not_the_size_and_makes_a_third_grey() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    before = noise.tobytes()
    grey = 0
    for seed in range(60):
        aged = age(noise, 40.0, np.random.default_rng(seed))
        assert aged.size == noise.size
        pixels = np.asarray(aged, int)
        # JPEG rounds its colours, so a grey picture may be a level or two off.
        grey += bool(np.abs(pixels - pixels.mean(axis=2, keepdims=True)).max() < 4)
    assert noise.tobytes() == before
    assert 12 <= grey <= 36
