"""One detection per face."""

from __future__ import annotations

import numpy as np

from operators.detect.suppression import Candidates, concatenate, overlaps, suppress


def candidates(*rows: tuple[float, tuple[float, float, float, float]]) -> Candidates:
    """Landmarks are the box's upper left corner, five times."""
    boxes = np.array([box for _, box in rows], np.float32)
    return Candidates(np.array([score for score, _ in rows], np.float32), boxes, np.repeat(boxes[:, None, :2], 5, 1))


def test_the_suppressed_vote_by_squared_score() -> None:
    kept = suppress(candidates((0.9, (0, 0, 100, 100)), (0.6, (10, 0, 110, 100))))
    assert len(kept) == 1
    assert kept.scores[0] == np.float32(0.9)
    weight = 0.6**2 / (0.6**2 + 0.9**2)
    np.testing.assert_allclose(kept.boxes[0], [10 * weight, 0, 100 + 10 * weight, 100], rtol=1e-5)
    np.testing.assert_allclose(kept.landmarks[0, :, 0], 10 * weight, rtol=1e-5)


def test_neighbours_both_stay() -> None:
    assert len(suppress(candidates((0.9, (0, 0, 100, 100)), (0.8, (70, 0, 170, 100))))) == 2


def test_a_face_within_a_face_goes() -> None:
    kept = suppress(candidates((0.6, (30, 30, 60, 60)), (0.9, (0, 0, 100, 100))))
    assert kept.boxes.tolist() == [[0, 0, 100, 100]]


def test_order_of_input_does_not_matter() -> None:
    rows = [(0.9, (0.0, 0.0, 50.0, 50.0)), (0.7, (4.0, 2.0, 52.0, 50.0)), (0.8, (80.0, 0.0, 120.0, 50.0))]
    forwards, backwards = suppress(candidates(*rows)), suppress(candidates(*rows[::-1]))
    np.testing.assert_array_equal(forwards.boxes, backwards.boxes)


def test_nothing_gives_nothing() -> None:
    assert len(suppress(concatenate([]))) == 0


def test_overlaps() -> None:
    union, smaller = overlaps(
        np.array([0, 0, 10, 10], np.float32), np.array([[0, 0, 5, 10], [20, 0, 30, 10]], np.float32)
    )
    np.testing.assert_allclose(union, [0.5, 0])
    np.testing.assert_allclose(smaller, [1.0, 0])
