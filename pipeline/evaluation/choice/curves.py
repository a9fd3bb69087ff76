"""The curves of the paper's Figure 9: quality over tau, a line per N, one panel per severity and measure."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.choice.rules import severity
from pipeline.evaluation.choice.summary import SPLITS
from pipeline.evaluation.results import FaceResult

_MEASURES: tuple[tuple[str, Callable[[Cell], float | None]], ...] = (
    ("PSNR of DR2, dB", lambda cell: cell.dr2["psnr"]),
    ("SSIM of DR2", lambda cell: cell.dr2["ssim"]),
    ("NIQE of DR2", lambda cell: cell.niqe),
    ("PSNR enhanced, dB", lambda cell: cell.enhanced["psnr"]),
    ("SSIM enhanced", lambda cell: cell.enhanced["ssim"]),
)


def curves(faces: Sequence[FaceResult]) -> bytes:
    """A PNG: a row per severity that has faces, a column per measure; means over faces."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    of_split = {split: [face for face in faces if severity(face) == split] for split in SPLITS[:-1]}
    splits = {split: found for split, found in of_split.items() if found}
    figure = Figure(figsize=(3.2 * len(_MEASURES), 2.6 * len(splits)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(splits), len(_MEASURES), squeeze=False)
    for row, (split, found) in zip(panels, splits.items(), strict=True):
        for panel, (title, measure) in zip(row, _MEASURES, strict=True):
            for n in sorted({cell.n for cell in found[0].grid}):
                panel.plot(*_curve(found, n, measure), label=f"N = {n}")
            panel.set_title(f"{split} ({len(found)}): {title}", fontsize=9)
            panel.set_xlabel("tau", fontsize=8)
            panel.tick_params(labelsize=8)
    panels[0][0].legend(fontsize=7)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _curve(
    faces: Sequence[FaceResult], n: int, measure: Callable[[Cell], float | None]
) -> tuple[list[int], list[float]]:
    """tau, and the mean over the faces that could be measured there."""
    taus = [cell.tau for cell in faces[0].grid if cell.n == n]
    values = [[measure(cell) for cell in face.grid if cell.n == n] for face in faces]
    with_gaps = np.array(values, np.float64)
    return taus, [float(np.nanmean(column)) if not np.isnan(column).all() else float("nan") for column in with_gaps.T]
