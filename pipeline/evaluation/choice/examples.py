"""What a policy is fitted to, from the faces of a stored evaluation."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from operators.quality.selection_fit import PAIRS, PROBE, Examples, score_columns
from operators.restoration import STEP
from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.results import PhotoResult
from pipeline.evaluation.settings import CLEAN
from pipeline.ledger import LedgerError

DECIBEL = 0.05
"""What 1 dB of PSNR is worth in SSIM, as 0.3 dB is worth 0.015: PSNR hardly tells candidates apart and favours blur."""


def examples(photos: Sequence[PhotoResult], name: str) -> Examples:
    """What the fit needs of every face. name: of the evaluation, for errors. Raises LedgerError when it lacks pairs."""
    faces = [(photo.key, face) for photo in photos for face in photo.faces]
    grids = [{(cell.n, cell.tau // STEP): cell for cell in face.grid} for _, face in faces]
    wanted = {*PAIRS, *((1, tau) for tau in PROBE)}
    if not grids:
        raise LedgerError(f"{name} holds no face of a training key; evaluate more photos, without --held-out")
    if not any(grids):
        raise LedgerError(f"{name} measured no grid of (N, tau); make one with 'dr2e evaluate --select'")
    if missing := sorted(pair for pair in wanted if not all(pair in grid for grid in grids)):
        listed = ", ".join(f"({n}, {tau * STEP})" for n, tau in missing)
        raise LedgerError(
            f"{name} lacks the pairs {listed}, which its prior does not reach or its face side not divide"
        )
    scores = [
        score_columns(face.niqe_in, [grid[1, tau].niqe for tau in PROBE])
        for (_, face), grid in zip(faces, grids, strict=True)
    ]
    return Examples(
        scores=np.array(scores),
        qualities=np.array([[of_cell(grid[pair]) for pair in PAIRS] for grid in grids]),
        fidelities=np.array([[grid[pair].fidelity for pair in PAIRS] for grid in grids]),
        degraded=np.array([face.setting != CLEAN.name for _, face in faces]),
        groups=np.array([zlib.crc32(key.encode()) for key, _ in faces]),
    )


def of_cell(cell: Cell) -> float:
    """The quality of a candidate: that of DR2's output, and twice that of the enhanced face, which a user gets."""
    return (quality(cell.dr2) + 2 * quality(cell.enhanced)) / 3


def quality(values: Mapping[str, float]) -> float:
    """SSIM, and a little for PSNR."""
    return values["ssim"] + DECIBEL * values["psnr"]
