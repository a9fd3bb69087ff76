"""The page of a measured choice: Markdown for people, and the same numbers unrounded as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from operators.quality.metrics.names import Metric
from pipeline.evaluation.choice.rules import KNOWS_TRUTH, Output
from pipeline.evaluation.choice.summary import Comparison, Loss
from pipeline.evaluation.settings import EvaluationConfig
from pipeline.evaluation.statistics import CONFIDENCE, Mean
from pipeline.evaluation.table import table

_TITLES: dict[Output, str] = {"enhanced": "What a user gets: DR2 and the enhancer", "dr2": "DR2's output alone"}

_EXPLANATION = """A mixed collection: each face is left clean or degraded by one setting of Eq. 13 of DR2E, drawn by \
its key, and then restored with every N of 1, 2, 4, 8, 16 and tau of 0, {step} .. 400, and some pairs besides. Rules \
compared, at {size} px against the undegraded face: *automatic*, {ours}; *lowest NIQE* of the candidates{judge}; *by \
hand*, the pairs that the authors' demonstration sets for light, middling and heavy damage, told which it is; and two \
that look at the truth: the *best fixed pair*, the one with the highest mean SSIM, and the *oracle*, each face's \
candidate with the highest SSIM. Evaluations: of the U-Net, mean per face, {stride} timesteps apart; a search of the \
grid shares chains. The published loop, 10 timesteps apart, needs 21 to 31 for one pair."""

_LOSSES = f"""The automatic choice less the rules that look at the truth, mean over the same faces ± half the \
{CONFIDENCE:.0%} confidence interval."""


def choice_page(comparisons: Sequence[Comparison], metrics: Sequence[Metric], config: EvaluationConfig) -> str:
    """The page's blocks. metrics: those that compare with the truth. config: what was measured."""
    blocks = ["# The choice of (N, tau)", _explanation(config)]
    for comparison in comparisons:
        n, tau = comparison.fixed
        blocks += [
            f"## {_TITLES[comparison.output]}",
            f"Best fixed pair: N = {n}, tau = {tau}.",
            _lines(comparison, metrics),
            _LOSSES,
            _losses(comparison.losses, metrics),
        ]
    return "\n\n".join(blocks)


def _explanation(config: EvaluationConfig) -> str:
    restore, evaluate = config.restore, config.evaluate
    fixed = restore.select == "fixed"
    other = restore.niqe.startswith("pyiqa:")
    return _EXPLANATION.format(
        step=evaluate.grid,
        size=evaluate.size,
        stride=restore.stride,
        ours=f"here the fixed pair N = {restore.n}, tau = {restore.tau}" if fixed else "this run's own choice",
        judge=f", here of {restore.niqe}, negated where more is better" if other else "",
    )


def choice_document(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Everything in the page, unrounded; JSON values."""
    return {comparison.output: asdict(comparison) for comparison in comparisons}


def _lines(comparison: Comparison, metrics: Sequence[Metric]) -> str:
    head = ["split", "faces", "rule", *(f"{metric.label} {metric.arrow}" for metric in metrics), "evaluations", "kept"]
    rows = [
        [
            line.split,
            str(line.faces),
            f"{line.rule} (looks at the truth)" if line.rule in KNOWS_TRUTH else line.rule,
            *(_number(line.means[metric.name], metric.digits) for metric in metrics),
            f"{line.evaluations:.1f}",
            f"{line.kept:.0%}",
        ]
        for line in comparison.lines
    ]
    return table(head, rows)


def _losses(losses: Sequence[Loss], metrics: Sequence[Metric]) -> str:
    head = ["split", "less", *(metric.label for metric in metrics)]
    rows = [
        [loss.split, loss.rule, *(_signed(loss.differences[metric.name], metric.digits) for metric in metrics)]
        for loss in losses
    ]
    return table(head, rows)


def _number(mean: Mean, digits: int) -> str:
    return "–" if mean.mean is None else f"{mean.mean:.{digits}f}"


def _signed(mean: Mean, digits: int) -> str:
    if mean.mean is None:
        return "–"
    text = f"{mean.mean:+.{digits}f}"
    return text if mean.half_width is None else f"{text} ± {mean.half_width:.{digits}f}"
