"""Ways to choose (N, tau), as they would have chosen on faces whose whole grid is known.

Those of `KNOWS_TRUTH` look at the undegraded face, which nobody has outside an evaluation: they say how good a choice
could be, not how good one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.results import METHODS, FaceResult
from pipeline.evaluation.settings import CLEAN

Output = Literal["dr2", "enhanced"]
TimedPair = tuple[int, int]
"""(N, tau), tau a timestep of 1000."""

Cost = Callable[[int, int], int]
"""U-Net evaluations per face of a run that fixes (N, tau)."""

JUDGE = "ssim"
"""What an oracle maximises, and the best fixed pair in the mean."""

BY_HAND: Mapping[str, TimedPair] = {"clean": (4, 220), "mild": (4, 220), "medium": (8, 350), "severe": (16, 350)}
"""The pairs that the authors' demonstration sets by hand for its three folders, from light damage to heavy."""

INPUT, CHOICE, ARGMIN, HAND, FIXED, ORACLE = (
    "as it came", "automatic", "lowest NIQE", "by hand", "best fixed pair", "oracle",
)  # fmt: skip
KNOWS_TRUTH = frozenset({FIXED, ORACLE})


@dataclass(frozen=True)
class Taken:
    """What a rule made of one face: its distances to the truth by metric, and the U-Net evaluations it took."""

    values: Mapping[str, float | None]
    evaluations: float
    kept: bool = False


def severity(face: FaceResult) -> str:
    """ "clean", "mild", "medium" or "severe"."""
    return face.setting.partition("-")[0]


def best_fixed(faces: Iterable[FaceResult], output: Output) -> TimedPair:
    """The one pair with the highest mean SSIM over the degraded faces, or over all when none is degraded."""
    known = list(faces)
    degraded = [face for face in known if face.setting != CLEAN.name] or known
    pairs = [cell.pair for cell in degraded[0].grid]
    means = np.mean([[_values(cell, output)[JUDGE] for cell in face.grid] for face in degraded], axis=0)
    return pairs[int(np.argmax(means))]


def taken(faces: Sequence[FaceResult], output: Output, cost: Cost, searched: int) -> dict[str, list[Taken]]:
    """What each rule makes of each face, by the rule's name; a rule that needs a pair the grid lacks is left out.

    output: what is judged, DR2's output or the enhancer's. searched: U-Net evaluations of a whole grid.
    """
    fixed = best_fixed(faces, output)
    found: dict[str, list[Taken]] = {
        INPUT: [Taken(face.versions[0].values, 0, kept=True) for face in faces],
        CHOICE: [_chosen(face, output) for face in faces],
        ARGMIN: [Taken(_values(_lowest_niqe(face.grid), output), searched) for face in faces],
        FIXED: [_at(face, fixed, output, cost) for face in faces],
        ORACLE: [Taken(_values(_best(face.grid, output), output), searched) for face in faces],
    }
    if all(any(cell.pair == BY_HAND[severity(face)] for cell in face.grid) for face in faces):
        found[HAND] = [_at(face, BY_HAND[severity(face)], output, cost) for face in faces]
    return found


def _chosen(face: FaceResult, output: Output) -> Taken:
    version = face.versions[METHODS.index("dr2" if output == "dr2" else "dr2+enhancer")]
    return Taken(version.values, face.evaluations, face.status == "kept")


def _at(face: FaceResult, pair: TimedPair, output: Output, cost: Cost) -> Taken:
    cell = next(cell for cell in face.grid if cell.pair == pair)
    return Taken(_values(cell, output), cost(*pair))


def _lowest_niqe(grid: Sequence[Cell]) -> Cell:
    return min(grid, key=lambda cell: float("inf") if cell.niqe is None else cell.niqe)


def _best(grid: Sequence[Cell], output: Output) -> Cell:
    return max(grid, key=lambda cell: _values(cell, output)[JUDGE])


def _values(cell: Cell, output: Output) -> Mapping[str, float]:
    return cell.dr2 if output == "dr2" else cell.enhanced
