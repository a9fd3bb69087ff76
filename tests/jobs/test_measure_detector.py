"""The figures of merit, with detectors whose figures are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.training.faces import LabelledPhoto
from jobs.training.measure_detector import measure
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
    for name in ("clean", "aged"):
        assert figures[f"recall_{name}"] == figures[f"precision_{name}"] == 1.0
        assert figures[f"landmark_{name}"] == 0.0
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
