"""Assignment of faces to cells."""

from __future__ import annotations

import numpy as np
import pytest

from operators.detect.network import STRIDES
from operators.detect.targets import RANGE_MARGIN, SIZE_RANGE, Labels, Targets, assign

SIDE = 256


def face_at(x: float, y: float, size: float, *, sure: bool = True) -> Labels:
    box = [x - size / 2, y - size / 2, x + size / 2, y + size / 2]
    points = np.array([[[x, y]] * 5], np.float32) + np.arange(10, dtype=np.float32).reshape(5, 2)
    return Labels(np.array([box], np.float32), points, np.array([sure]))


def by_stride(labels: Labels) -> dict[int, Targets]:
    return dict(zip(STRIDES, assign(labels, SIDE, SIDE), strict=True))


@pytest.mark.parametrize("size", np.geomspace(SIZE_RANGE[8][0], SIZE_RANGE[16][1], 12))
@pytest.mark.parametrize("corner", [100.0, 103.9, 107.5])
def test_every_size_in_range_has_a_cell_that_answers(size: float, corner: float) -> None:
    labels = face_at(corner, corner, float(size))
    targets = by_stride(labels)
    assert sum(int((target.score == 1).sum()) for target in targets.values()) > 0
    for stride, target in targets.items():
        low, high = SIZE_RANGE[stride]
        assert (target.score == 1).any() == (low <= size <= high)


def test_positive_cells_carry_the_face_they_lie_on() -> None:
    left, right = face_at(60, 60, 40), face_at(180, 60, 40)
    both = Labels(
        np.concatenate([left.boxes, right.boxes]),
        np.concatenate([left.landmarks, right.landmarks]),
        np.array([True, True]),
    )
    target = by_stride(both)[8]
    rows, columns = np.nonzero(target.score == 1)
    for row, column in zip(rows, columns, strict=True):
        face = 0 if column * 8 < SIDE / 2 else 1
        np.testing.assert_array_equal(target.boxes[row, column], both.boxes[face])
        np.testing.assert_array_equal(target.landmarks[row, column], both.landmarks[face])


def test_an_unsure_face_is_ignored_not_asked_for() -> None:
    target = by_stride(face_at(100, 100, 40, sure=False))[8]
    assert not (target.score == 1).any()
    assert target.score[12, 12] == -1


def test_a_face_far_out_of_range_is_background() -> None:
    largest = SIZE_RANGE[8][1]
    near = by_stride(face_at(100, 100, largest * RANGE_MARGIN * 0.95))[8]
    far = by_stride(face_at(100, 100, largest * RANGE_MARGIN * 1.05))[8]
    assert near.score[12, 12] == -1
    assert (far.score == 0).all()


def test_no_face_gives_background_alone() -> None:
    empty = Labels(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, bool))
    for stride, target in by_stride(empty).items():
        assert target.score.shape == (SIDE // stride, SIDE // stride)
        assert not target.score.any()
