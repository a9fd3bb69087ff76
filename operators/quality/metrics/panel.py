"""All metrics of one face at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from operators.quality.metrics.names import measurable
from operators.quality.metrics.reference import reference_metrics
from operators.quality.niqe import Niqe

if TYPE_CHECKING:
    from operators.quality.metrics.named import NamedMetric


class Panel:
    """Compares versions of a face with the truth, on the CPU, by every metric there are weights for."""

    def __init__(self, niqe: Niqe, weights: Path | None = None, named: Sequence[str] = ()) -> None:
        """weights: folder with the files of `names.METRICS`, or None. named: metrics of pyiqa besides, with their files
        in that folder. Raises WeightsError naming a broken file, and one that a named metric lacks."""
        self.niqe = niqe
        self.named: list[NamedMetric] = []
        if named:
            from operators.quality.metrics.named import NamedMetric

            self.named = [NamedMetric(name, weights) for name in named]
        names = {metric.name for metric in measurable(weights)[0]}
        self.lpips = self.arcface = self.inception = None
        if weights is None:
            return
        if "lpips" in names:
            from operators.quality.metrics.lpips import Lpips

            self.lpips = Lpips(weights)
        if "arcface" in names:
            from operators.quality.metrics.arcface import ArcFace

            self.arcface = ArcFace(weights)
        if "fid" in names:
            from operators.quality.metrics.fid import Inception

            self.inception = Inception(weights)

    def measure(self, versions: Sequence[NDArray[np.uint8]], truth: NDArray[np.uint8]) -> list[dict[str, float]]:
        """The metrics of each version, by name; pooled ones are not among them.

        versions: (S, S, 3) uint8 RGB each; truth: the same shape, S >= reference.MIN_SIDE. NIQE is +inf where it
        cannot be measured.
        """
        values = self.distances(versions, truth)
        images = torch.from_numpy(np.stack(versions)).permute(0, 3, 1, 2).float() / 255
        for of_version, score in zip(values, self.niqe.score(images), strict=True):
            of_version["niqe"] = float(score)
        for metric in self.named:
            scores = metric.measure(np.stack(versions), np.stack([truth] * len(versions)))
            for of_version, score in zip(values, scores, strict=True):
                of_version[metric.name] = float(score)
        return values

    def distances(self, versions: Sequence[NDArray[np.uint8]], truth: NDArray[np.uint8]) -> list[dict[str, float]]:
        """As `measure`, without NIQE, which knows no truth, and without named metrics."""
        images, truths = np.stack(versions), np.stack([truth] * len(versions))
        values = reference_metrics(images, truths)
        if self.lpips is not None:
            values["lpips"] = self.lpips.distance(images, truths)
        if self.arcface is not None:
            values["arcface"] = self.arcface.angle(images, truths)
        return [{name: float(column[row]) for name, column in values.items()} for row in range(len(images))]

    def features(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]] | None:
        """What FID compares, (2048,) float32 per image; None without its weights."""
        return None if self.inception is None else list(self.inception.features(np.stack(images)))
