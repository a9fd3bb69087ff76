from __future__ import annotations

import numpy as np

from jobs.demonstration.photographs import eileen_collins
from operators.detect.align import align, template
from operators.quality.agreement import bordered, disagreement, normalised_mean_error
from pipeline.store.loading import detector_of


def test_the_error_is_in_eye_distances() -> None:
    expected = template(256)
    eyes = np.hypot(*(expected[1] - expected[0]))
    assert normalised_mean_error(expected, expected) == 0
    assert np.isclose(normalised_mean_error(expected + np.array([eyes, 0]), expected), 1)
    assert np.isclose(normalised_mean_error(expected * 2, expected * 2 + np.array([0, eyes])), 0.5)
    assert normalised_mean_error(expected, np.zeros((5, 2))) == float("inf")


def test_the_nearest_of_several_counts() -> None:
    expected = template(256)
    assert disagreement([expected + 100, expected + 1, expected - 50], expected) == disagreement(
        [expected + 1], expected
    )
    assert disagreement([], expected) is None


def test_the_detector_finds_an_aligned_face_within_its_border() -> None:
    photograph = eileen_collins()
    face, _ = align(photograph.pixels, photograph.faces[0], 256)
    wide, border = bordered(face)
    assert wide.shape == (512, 512, 3) and np.array_equal(wide[border:-border, border:-border], face)
    (found,) = detector_of("builtin", "cpu").detect([wide])
    moved = disagreement([one.landmarks - border for one in found], template(256))
    assert moved is not None and moved < 0.12
