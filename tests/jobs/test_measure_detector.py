"""The figures of merit, with detectors whose figures are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.training.faces import LabelledPhoto
from jobs.training.measure_detector import CONDITIONS, face_size, is_profile, measure, resized
from operators.detect.contract import Detection

POINTS = np.array([[75, 90], [125, 90], [100, 120], [80, 145], [120, 145]], np.float32)
BOX = (50.0, 50.0, 150.0, 170.0)
PHOTO = LabelledPhoto("key", np.full((300, 240, 3), 120, np.uint8), POINTS, BOX)


class Fixed:
    """Answers every portrait-sized photo with the same faces and every other with `elsewhere`."""

    name = "fixed"
    fingerprint = ""

    def __init__(self, faces: list[Detection], elsewhere: list[Detection]) -> None:
        self.faces, self.elsewhere = faces, elsewhere

    def detect(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        return [self.faces if photo.shape == PHOTO.pixels.shape else self.elsewhere for photo in photos]


def test_a_perfect_detector() -> None:
    figures = measure(Fixed([Detection(BOX, 1.0, POINTS)], []), [PHOTO], 0)
    for name in ("clean", "aged", "severe8", "severe16"):
        assert figures[f"recall_{name}"] == figures[f"precision_{name}"] == 1.0
        assert figures[f"landmark_{name}"] == figures[f"landmark_median_{name}"] == 0.0
    assert figures["false_per_faceless"] == 0.0


def test_errors_are_counted_where_they_belong() -> None:
    shifted = Detection(BOX, 1.0, POINTS + np.array([5.0, 0.0], np.float32))
    stray = Detection((0.0, 0.0, 20.0, 20.0), 0.6, POINTS)
    figures = measure(Fixed([shifted, stray], [stray, stray]), [PHOTO], 0)
    assert figures["recall_clean"] == 1.0
    assert figures["precision_clean"] == 0.5
    assert figures["landmark_clean"] == pytest.approx(5.0 / 50.0)
    assert figures["false_per_faceless"] == 2.0


def test_a_blind_detector() -> None:
    figures = measure(Fixed([], []), [PHOTO], 0)
    assert figures["recall_clean"] == 0.0
    assert np.isnan(figures["landmark_clean"])


def test_photos_without_labels_are_no_evidence() -> None:
    bare = LabelledPhoto("bare", PHOTO.pixels, None, None)
    assert measure(Fixed([Detection(BOX, 1.0, POINTS)], []), [PHOTO, bare], 0)["faces"] == 1.0


def test_recall_by_size_looks_at_resized_photos() -> None:
    # `Fixed` answers only a photo of the size it knows, where a face measures sqrt(100 * 120) = 109.5 pixels.
    figures = measure(Fixed([Detection(BOX, 1.0, POINTS)], []), [PHOTO], 0)
    assert figures["recall_100px"] == 0.0
    half = resized(PHOTO, face_size(PHOTO) / 2)
    assert half.pixels.shape == (150, 120, 3)
    assert half.box == (24.75, 24.75, 74.75, 84.75)
    assert face_size(half) == pytest.approx(face_size(PHOTO) / 2)
    assert half.landmarks is not None
    np.testing.assert_allclose(half.landmarks, (POINTS + 0.5) / 2 - 0.5)


def test_profiles_are_known_by_their_labels_and_counted_apart() -> None:
    nose_out = POINTS.copy()
    nose_out[2, 0] = 130
    narrow = POINTS.copy()
    narrow[0, 0], narrow[1, 0] = 90, 110
    profiles = [LabelledPhoto(str(index), PHOTO.pixels, points, BOX) for index, points in enumerate([nose_out, narrow])]
    assert [is_profile(photo) for photo in [PHOTO, *profiles]] == [False, True, True]
    figures = measure(Fixed([Detection(BOX, 1.0, POINTS)], []), [PHOTO, *profiles], 0)
    assert figures["profiles"] == 2.0
    assert figures["landmark_no_profile_clean"] == 0.0
    assert figures["landmark_clean"] > 0.1


def test_severe_is_as_bad_for_a_face_as_the_paper_s_for_512_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 480, 3), dtype=np.uint8)
    sharp = LabelledPhoto("sharp", noise, 2 * POINTS, (100.0, 100.0, 300.0, 340.0))
    spread = []
    for name in ("severe8", "severe16"):
        altered = CONDITIONS[name](sharp, np.random.default_rng(1))
        assert altered.pixels.shape == noise.shape
        assert altered.box == sharp.box
        # What a factor r leaves of the finest detail: neighbours r * 219 / 512 pixels apart differ, closer ones do not.
        spread.append(float(np.abs(np.diff(altered.pixels.astype(int), axis=1)).mean()))
    assert spread[1] < spread[0] < np.abs(np.diff(noise.astype(int), axis=1)).mean() / 3
