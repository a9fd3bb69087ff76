"""From the results of photos to the numbers of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from operators.quality.metrics.names import Metric
from pipeline.evaluation.results import METHODS, FaceResult, PhotoResult
from pipeline.evaluation.settings import Setting

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over `n` faces. half_width: of its confidence interval, by Student's t; None where there is none.

    mean is None when no face could be measured.
    """

    mean: float | None
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """One metric at one setting: its mean by method, and final - input of the same faces."""

    metric: Metric
    methods: dict[str, Mean]
    difference: Mean

    @property
    def gained(self) -> bool | None:
        """Whether the final version is better than the input; None when they are equal or unknown."""
        change = self.difference.mean
        return None if not change else (change > 0) == self.metric.higher_is_better


@dataclass(frozen=True)
class Row:
    """One setting. kept: share of faces that were left as they came. evaluations: of the U-Net, mean per face.

    choices: "N 4, tau 280" to how many faces it was chosen for.
    """

    setting: Setting
    faces: int
    kept: float
    evaluations: float
    choices: dict[str, int]
    comparisons: tuple[Comparison, ...]


def rows(photos: Iterable[PhotoResult], settings: Sequence[Setting], metrics: Sequence[Metric]) -> list[Row]:
    """The table's numbers. They depend on the results alone: photos are put in order first."""
    measured = sorted((p for p in photos if p.status == "measured"), key=lambda photo: (photo.shard, photo.key))
    found = ((setting, [(p, face) for p in measured for face in p.faces if face.setting == setting.name])
             for setting in settings)  # fmt: skip
    return [_row(setting, faces, metrics) for setting, faces in found if faces]


def mean(values: Iterable[float | None]) -> Mean:
    """The mean of what could be measured."""
    from scipy.stats import t

    numbers = np.array([value for value in values if value is not None], np.float64)
    if len(numbers) == 0:
        return Mean(None, None, 0)
    if len(numbers) == 1:
        return Mean(float(numbers[0]), None, 1)
    spread = float(numbers.std(ddof=1)) / np.sqrt(len(numbers))
    return Mean(float(numbers.mean()), float(t.ppf((1 + CONFIDENCE) / 2, len(numbers) - 1) * spread), len(numbers))


def _row(setting: Setting, found: Sequence[tuple[PhotoResult, FaceResult]], metrics: Sequence[Metric]) -> Row:
    photos, faces = [photo for photo, _ in found], [face for _, face in found]
    chosen = Counter(f"N {face.n}, tau {face.tau}" for face in faces if face.status != "kept" and face.n is not None)
    return Row(
        setting=setting,
        faces=len(faces),
        kept=sum(face.status == "kept" for face in faces) / len(faces),
        evaluations=sum(face.evaluations for face in faces) / len(faces),
        choices=dict(sorted(chosen.items(), key=lambda item: (-item[1], item[0]))),
        comparisons=tuple(
            _pooled(metric, photos, faces) if metric.pooled else _compared(metric, faces) for metric in metrics
        ),
    )


def _compared(metric: Metric, faces: Sequence[FaceResult]) -> Comparison:
    columns = {
        method: [face.versions[place].values.get(metric.name) for face in faces] for place, method in enumerate(METHODS)
    }
    pairs = zip(columns[METHODS[0]], columns[METHODS[-1]], strict=True)
    difference = mean(None if before is None or after is None else after - before for before, after in pairs)
    return Comparison(metric, {method: mean(column) for method, column in columns.items()}, difference)


def _pooled(metric: Metric, photos: Sequence[PhotoResult], faces: Sequence[FaceResult]) -> Comparison:
    """FID: the versions of all faces against all truths. It has no confidence interval."""
    from operators.quality.metrics.fid import frechet_distance

    truths = [photo.truth for photo in photos if photo.truth is not None]
    methods: dict[str, Mean] = {}
    for place, method in enumerate(METHODS):
        features = [of_face for face in faces if (of_face := face.versions[place].features) is not None]
        enough = min(len(features), len(truths)) >= 2
        distance = frechet_distance(np.stack(features), np.stack(truths)) if enough else None
        methods[method] = Mean(distance, None, len(features))
    before, after = methods[METHODS[0]].mean, methods[METHODS[-1]].mean
    difference = None if before is None or after is None else after - before
    return Comparison(metric, methods, Mean(difference, None, len(faces)))
