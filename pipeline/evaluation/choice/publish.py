"""What a measured choice comes to: a page, its numbers and its curves, from the faces that are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from operators.quality.grid import grid_chains
from operators.quality.metrics.names import METRICS, Metric
from operators.quality.selection import Chain
from operators.restoration import STEP, cost
from pipeline.evaluation.choice.curves import curves
from pipeline.evaluation.choice.page import choice_document, choice_page
from pipeline.evaluation.choice.rules import Output
from pipeline.evaluation.choice.summary import compare
from pipeline.evaluation.results import FaceResult
from pipeline.evaluation.settings import EvaluationConfig
from pipeline.models import Models

OUTPUTS: tuple[Output, ...] = ("enhanced", "dr2")


@dataclass(frozen=True)
class MeasuredChoice:
    """page: Markdown. document: JSON values. curves: a PNG."""

    page: str
    document: dict[str, Any]
    curves: bytes


def measure_choice(
    config: EvaluationConfig, models: Models, metrics: Sequence[Metric], faces: Sequence[FaceResult]
) -> MeasuredChoice:
    """The rules of choosing compared, on what a user gets and on DR2's output. metrics: all that were measured."""
    if config.evaluate.grid is None:
        raise ValueError("this evaluation measured no grid")
    stride, last_step = config.restore.stride // STEP, models.max_timestep // STEP - 1
    chains = grid_chains(models.face_size, step=config.evaluate.grid // STEP, stride=stride)
    searched = sum(cost(chain, last_step, stride) for chain in chains)

    def of_pair(n: int, tau: int) -> int:  # tau: timestep of 1000
        return cost(Chain.to(n, tau // STEP), last_step, stride)

    with_truth = [metric for metric in metrics if metric in METRICS and metric.name != "niqe" and not metric.pooled]
    compared = [compare(faces, with_truth, output, of_pair, searched) for output in OUTPUTS]
    return MeasuredChoice(choice_page(compared, with_truth, config), choice_document(compared), curves(faces))
