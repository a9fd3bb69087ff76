"""From what each rule took to the numbers of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from operators.quality.metrics.names import Metric
from pipeline.evaluation.choice.rules import (
    CHOICE,
    FIXED,
    ORACLE,
    Cost,
    Output,
    Taken,
    TimedPair,
    best_fixed,
    severity,
    taken,
)
from pipeline.evaluation.results import FaceResult
from pipeline.evaluation.settings import CLEAN
from pipeline.evaluation.statistics import Mean, mean

SPLITS = ("clean", "mild", "medium", "severe", "all degraded")


@dataclass(frozen=True)
class Line:
    """One rule on one split. evaluations: of the U-Net, mean per face. kept: share of faces left as they came."""

    split: str
    rule: str
    faces: int
    means: Mapping[str, Mean]
    evaluations: float
    kept: float


@dataclass(frozen=True)
class Loss:
    """The automatic choice less another rule, over the same faces; for a metric where higher is better, < 0 is worse.

    differences: by metric.
    """

    split: str
    rule: str
    differences: Mapping[str, Mean]


@dataclass(frozen=True)
class Comparison:
    """All rules on one output. fixed: the best fixed pair, known only with the truth."""

    output: Output
    fixed: TimedPair
    lines: tuple[Line, ...]
    losses: tuple[Loss, ...]

    def line(self, split: str, rule: str) -> Line | None:
        """That line, where the split has faces and the rule a pair."""
        return next((line for line in self.lines if (line.split, line.rule) == (split, rule)), None)


def compare(
    faces: Sequence[FaceResult], metrics: Sequence[Metric], output: Output, cost: Cost, searched: int
) -> Comparison:
    """All rules over all faces, by severity. metrics: those that compare with the truth. The rest: see `taken`."""
    of_rule = taken(faces, output, cost, searched)
    lines, losses = [], []
    for split in SPLITS:
        places = [place for place, face in enumerate(faces) if _is_in(face, split)]
        if not places:
            continue
        of_split = {rule: [of_face[place] for place in places] for rule, of_face in of_rule.items()}
        lines += [_line(split, rule, of_face, metrics) for rule, of_face in of_split.items()]
        losses += [_loss(split, rule, of_split[CHOICE], of_split[rule], metrics) for rule in (ORACLE, FIXED)]
    return Comparison(output, best_fixed(faces, output), tuple(lines), tuple(losses))


def _is_in(face: FaceResult, split: str) -> bool:
    return face.setting != CLEAN.name if split == SPLITS[-1] else severity(face) == split


def _line(split: str, rule: str, found: Sequence[Taken], metrics: Sequence[Metric]) -> Line:
    means = {metric.name: mean(one.values.get(metric.name) for one in found) for metric in metrics}
    evaluations = float(np.mean([one.evaluations for one in found]))
    return Line(split, rule, len(found), means, evaluations, float(np.mean([one.kept for one in found])))


def _loss(split: str, rule: str, ours: Sequence[Taken], theirs: Sequence[Taken], metrics: Sequence[Metric]) -> Loss:
    def difference(name: str) -> Mean:
        pairs = [(a.values.get(name), b.values.get(name)) for a, b in zip(ours, theirs, strict=True)]
        return mean(None if a is None or b is None else a - b for a, b in pairs)

    return Loss(split, rule, {metric.name: difference(metric.name) for metric in metrics})
