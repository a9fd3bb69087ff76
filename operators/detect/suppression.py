"""From many overlapping candidates to one detection per face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidates:
    """What cells propose: scores (N,), boxes (N, 4), landmarks (N, 5, 2), all float32, one pixel frame."""

    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, keep: NDArray[np.bool_]) -> Candidates:
        """The candidates for which `keep` (N,) is true."""
        return Candidates(self.scores[keep], self.boxes[keep], self.landmarks[keep])

    def on_grid(self) -> Candidates:
        """The candidates with coordinates `on_grid`."""
        return Candidates(self.scores, on_grid(self.boxes), on_grid(self.landmarks))


def on_grid(coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
    """Pixel coordinates to the nearest sixteenth, far below any detector's error.

    The sums of a network round differently with the number of threads. Unrounded, that last digit would shift what is
    cut out, and so decide grey levels of everything that follows.
    """
    return (np.round(coordinates * 16) / 16).astype(np.float32)


def concatenate(parts: list[Candidates]) -> Candidates:
    """All candidates of all parts."""
    if not parts:
        return Candidates(np.zeros(0, np.float32), np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32))
    return Candidates(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
    )


def overlaps(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Intersection over union, and over the smaller of the two areas, of one box (4,) with boxes (N, 4)."""
    shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    intersection = np.clip(shared, 0, None).prod(axis=1)
    area = max(float((box[2:] - box[:2]).prod()), 1e-6)
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    return intersection / (area + areas - intersection), intersection / np.minimum(area, areas)


def suppress(candidates: Candidates, *, same: float = 0.4, inside: float = 0.75, voting: float = 0.6) -> Candidates:
    """Greedy non-maximum suppression in which the suppressed vote.

    The best candidate takes all that overlap it by more than `same` (intersection over union) or lie within it,
    or it within them, by more than `inside` (intersection over the smaller area: an eye taken for a face). Its
    box and landmarks become the mean of those that overlap by more than `voting`, weighted by squared score: many
    cells and scales see a face, and their errors are not the same.
    """
    order = np.argsort(-candidates.scores, kind="stable")
    scores, boxes, landmarks = candidates.scores[order], candidates.boxes[order], candidates.landmarks[order]
    alive = np.ones(len(scores), bool)
    kept: list[Candidates] = []
    for best in range(len(scores)):
        if not alive[best]:
            continue
        union, smaller = overlaps(boxes[best], boxes)
        voters = alive & (union > voting)
        voters[best] = True
        weight = scores[voters].astype(np.float64) ** 2
        weight /= weight.sum()
        kept.append(
            Candidates(
                scores[best : best + 1],
                np.tensordot(weight, boxes[voters], 1)[None].astype(np.float32),
                np.tensordot(weight, landmarks[voters], 1)[None].astype(np.float32),
            )
        )
        alive &= ~((union > same) | (smaller > inside))
        alive[best] = False
    return concatenate(kept)
