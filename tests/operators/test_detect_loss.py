"""The detection loss rewards what the targets ask for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from operators.detect.loss import detection_loss, focal_loss, generalised_iou
from operators.detect.network import BASE, CHANNELS_OUT, STRIDES, cell_centres
from operators.detect.targets import Labels, Targets, assign

SIDE = 96


@pytest.fixture
def targets() -> list[Targets]:
    box = np.array([[30, 25, 66, 70]], np.float32)
    points = np.array([[[40, 40], [56, 41], [48, 50], [42, 58], [54, 59]]], np.float32)
    return assign(Labels(box, points, np.array([True])), SIDE, SIDE)


def perfect(targets: list[Targets]) -> list[Tensor]:
    """Raw maps that say exactly what the targets want."""
    outputs = []
    for target, stride in zip(targets, STRIDES, strict=True):
        rows, columns = target.score.shape
        unit, centres = BASE * stride, cell_centres(rows, columns, stride)
        boxes, points = torch.from_numpy(target.boxes), torch.from_numpy(target.landmarks)
        raw = torch.zeros(1, CHANNELS_OUT, rows, columns)
        raw[0, 0] = torch.where(torch.from_numpy(target.score) == 1, 20.0, -20.0)
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2
        raw[0, 1:3] = ((middle - centres) / unit).permute(2, 0, 1)
        raw[0, 3:5] = torch.log((boxes[..., 2:] - boxes[..., :2]).clamp(min=1) / unit).permute(2, 0, 1)
        raw[0, 5:] = ((points - centres[:, :, None]) / unit).flatten(2).permute(2, 0, 1)
        outputs.append(raw)
    return outputs


def test_the_wanted_answer_costs_next_to_nothing(targets: list[Targets]) -> None:
    loss, parts = detection_loss(perfect(targets), [targets])
    assert float(loss) < 0.01
    assert set(parts) == {"score", "box", "landmark"}


def test_landmark_part_is_the_error_over_the_face_size(targets: list[Targets]) -> None:
    outputs = perfect(targets)
    shift = 3.0
    for output, stride in zip(outputs, STRIDES, strict=True):
        output[0, 5::2] += shift / (BASE * stride)
    size = float(np.sqrt(36 * 45))
    assert detection_loss(outputs, [targets])[1]["landmark"] == pytest.approx(shift / size, rel=1e-3)


def test_ignored_cells_cost_nothing() -> None:
    target = torch.tensor([-1.0, 0.0, 1.0])
    silent = focal_loss(torch.tensor([-9.0, -9.0, 9.0]), target)
    loud = focal_loss(torch.tensor([9.0, -9.0, 9.0]), target)
    assert silent == loud
    assert focal_loss(torch.tensor([0.0, 9.0, 9.0]), target) > silent


def test_a_picture_without_faces_trains_the_score_alone() -> None:
    empty = Labels(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, bool))
    raw = [torch.zeros(1, CHANNELS_OUT, SIDE // s, SIDE // s, requires_grad=True) for s in STRIDES]
    loss, _ = detection_loss(raw, [assign(empty, SIDE, SIDE)])
    loss.backward()
    for output in raw:
        assert output.grad is not None
        assert output.grad[:, 0].abs().min() > 0
        assert not output.grad[:, 1:].any()


def test_generalised_iou() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 3)
    b = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [4.0, 0.0, 6.0, 2.0]])
    # Same box; half overlapping (2 of 6, hull filled); apart (union 8 in a hull of 12).
    torch.testing.assert_close(generalised_iou(a, b), torch.tensor([1.0, 1 / 3, -1 / 3]))
