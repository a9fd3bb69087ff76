"""The training loss of the face network: focal score, generalised IoU of the box, landmark distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from operators.detect.network import STRIDES, decode
from operators.detect.targets import Targets

FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.25
LANDMARK_WEIGHT = 8.0
"""Landmarks decide the alignment of the crop and their error is a small fraction of the face: weighed up."""


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over cells of the focal loss of Lin et al. (2017), Eq. 5; cells whose target is -1 do not count."""
    used = target >= 0
    logits, target = logits[used], target[used]
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = torch.sigmoid(logits)
    wrong = probability * (1 - target) + (1 - probability) * target
    alpha = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return (alpha * wrong**FOCAL_GAMMA * cross_entropy).sum()


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised intersection over union (Rezatofighi et al., 2019) of boxes (N, 4) with boxes (N, 4), in (-1, 1]."""
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=1).clamp(min=1e-6)
    union = (area_a + area_b - shared).clamp(min=1e-6)
    return shared / union - (hull - union) / hull


def detection_loss(outputs: Sequence[Tensor], targets: Sequence[Sequence[Targets]]) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch.

    outputs: the network's raw maps, one per stride, (B, 15, h, w).
    targets: per image, one `Targets` per stride.
    Returns the scalar loss and its parts; "landmark" is the mean distance of a landmark divided by the
    face's size sqrt(width * height).
    """
    score = outputs[0].new_zeros(())
    predicted_boxes, predicted_points, true_boxes, true_points = [], [], [], []
    for level, stride in enumerate(STRIDES):
        logits, boxes, landmarks = decode(outputs[level], stride)
        target = _stack([image[level].score for image in targets], logits.device)
        score = score + focal_loss(logits, target)
        positive = target == 1
        predicted_boxes.append(boxes[positive])
        predicted_points.append(landmarks[positive])
        true_boxes.append(_stack([image[level].boxes for image in targets], logits.device)[positive])
        true_points.append(_stack([image[level].landmarks for image in targets], logits.device)[positive])
    boxes, wanted = torch.cat(predicted_boxes), torch.cat(true_boxes)
    count = max(1, len(boxes))
    size = (wanted[:, 2:] - wanted[:, :2]).prod(dim=1).sqrt().clamp(min=1.0)
    away = torch.cat(predicted_points) - torch.cat(true_points)
    # The distance itself, not its square: some labels are wrong, and a median-like fit shrugs them off.
    distance = torch.sqrt((away**2).sum(dim=-1) + 1e-4).mean(dim=1) / size
    parts = {
        "score": score / count,
        "box": (1 - generalised_iou(boxes, wanted)).sum() / count,
        "landmark": distance.sum() / count,
    }
    loss = parts["score"] + parts["box"] + LANDMARK_WEIGHT * parts["landmark"]
    return loss, {name: float(value.detach()) for name, value in parts.items()}


def _stack(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)
