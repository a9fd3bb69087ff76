"""The table of an evaluation: Markdown for people, and the same numbers unrounded as JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from operators.quality.metrics.names import Metric
from pipeline.evaluation.results import METHODS, PhotoResult
from pipeline.evaluation.statistics import CONFIDENCE, Comparison, Mean, Row

FORMAT = "dr2e.evaluation/1"

_EXPLANATION = """Every face is degraded by Eq. 13 of DR2E (severity and r stated at 512 px) and measured at {size} px \
against the face it came from. Each cell: the input enlarged bicubically → {remover} → {remover} + enhancer, means \
over faces, the better of first and last in bold. PSNR is over RGB; SSIM, MS-SSIM and GMSD are of the luma. Kept: \
faces that were left as they came, which count as such. Evaluations: of the network, mean per face."""


def markdown(
    rows: Sequence[Row],
    photos: Sequence[PhotoResult],
    absent: Sequence[Metric],
    *,
    size: int,
    made_with: str,
    remover: str = "DR2",
) -> str:
    """The page. absent: metrics whose weights are not there. size: pixels. made_with: models and choices, one line.
    remover: what removed degradation."""
    blocks = ["# Evaluation", _EXPLANATION.format(size=size, remover=remover), made_with]
    if rows:
        blocks += [_means(rows), "## Gain", _GAIN.format(remover=remover), _gains(rows)]
    blocks += _remarks(photos, absent)
    return "\n\n".join(blocks) + "\n"


_GAIN = f"""{{remover}} + enhancer less the input, mean over the same faces ± half the {CONFIDENCE:.0%} confidence \
interval; bold where it is better."""


def document(rows: Sequence[Row], photos: Sequence[PhotoResult], absent: Sequence[Metric]) -> dict[str, Any]:
    """Everything in the page, unrounded; JSON values."""
    seconds: Counter[str] = Counter()
    for photo in photos:
        seconds.update(photo.seconds)
    left_out = [photo for photo in photos if photo.status == "left_out"]
    return {
        "format": FORMAT,
        "photos": {"measured": len(photos) - len(left_out), "left_out": _codes(left_out)},
        "left_out": [
            {"shard": photo.shard, "key": photo.key, "error": photo.error, "message": photo.message}
            for photo in sorted(left_out, key=lambda photo: (photo.shard, photo.key))
        ],
        "not_measured": {metric.name: [file.name for file in metric.files] for metric in absent},
        "rows": [_plain(row) for row in rows],
        "seconds": dict(sorted(seconds.items())),
    }


def _means(rows: Sequence[Row]) -> str:
    metrics = [comparison.metric for comparison in rows[0].comparisons]
    head = ["severity", "r", "faces", "kept", "evaluations", *(f"{metric.label} {metric.arrow}" for metric in metrics)]
    return table(head, [[*_facts(row), *map(_cell, row.comparisons)] for row in rows])


def _gains(rows: Sequence[Row]) -> str:
    metrics = [comparison.metric for comparison in rows[0].comparisons]
    head = ["severity", "r", *(f"{metric.label} {metric.arrow}" for metric in metrics)]
    return table(head, [[row.setting.severity, str(row.setting.r), *map(_gain, row.comparisons)] for row in rows])


def _facts(row: Row) -> list[str]:
    return [row.setting.severity, str(row.setting.r), str(row.faces), f"{row.kept:.0%}", f"{row.evaluations:.1f}"]


def _cell(comparison: Comparison) -> str:
    cells = [_number(comparison.methods[method], comparison.metric) for method in METHODS]
    if comparison.gained is not None:
        better = -1 if comparison.gained else 0
        cells[better] = f"**{cells[better]}**"
    return " → ".join(cells)


def _number(mean: Mean, metric: Metric) -> str:
    return "–" if mean.mean is None else f"{mean.mean:.{metric.digits}f}"


def _gain(comparison: Comparison) -> str:
    difference, digits = comparison.difference, comparison.metric.digits
    if difference.mean is None:
        return "–"
    text = f"{difference.mean:+.{digits}f}"
    if difference.half_width is not None:
        text += f" ± {difference.half_width:.{digits}f}"
    return f"**{text}**" if comparison.gained else text


def _remarks(photos: Sequence[PhotoResult], absent: Sequence[Metric]) -> list[str]:
    found = [f"Photos: {len(photos)}, of which {sum(photo.status == 'measured' for photo in photos)} were measured."]
    if codes := _codes(photo for photo in photos if photo.status == "left_out"):
        found.append("Left out: " + ", ".join(f"{count} × {code}" for code, count in codes.items()) + ".")
    if absent:
        needs = (f"{metric.label.partition(',')[0]} ({', '.join(f.name for f in metric.files)})" for metric in absent)
        found.append("Not measured, for want of weights: " + "; ".join(needs) + ".")
    return found


def _codes(left_out: Iterable[PhotoResult]) -> dict[str, int]:
    return dict(sorted(Counter(photo.error for photo in left_out).items()))


def _plain(row: Row) -> dict[str, Any]:
    return {
        "setting": row.setting.name,
        "severity": row.setting.severity,
        "r": row.setting.r,
        "faces": row.faces,
        "kept": row.kept,
        "evaluations": row.evaluations,
        "choices": row.choices,
        "metrics": {comparison.metric.name: _plain_comparison(comparison) for comparison in row.comparisons},
    }


def _plain_comparison(comparison: Comparison) -> dict[str, Any]:
    methods: Mapping[str, Any] = {method: asdict(mean) for method, mean in comparison.methods.items()}
    return {**methods, "difference": asdict(comparison.difference)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
