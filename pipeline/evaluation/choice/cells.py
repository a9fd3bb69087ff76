"""One candidate of a face, measured against the truth, and its Arrow form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Cell:
    """One (N, tau) of the grid, tried on one face.

    tau: timestep of 1000. niqe: of DR2's output, None where it cannot be measured. fidelity: as in `Candidate`.
    dr2, enhanced: distances to the truth by metric, of DR2's output and of what the enhancer makes of it.
    """

    n: int
    tau: int
    niqe: float | None
    fidelity: float
    dr2: Mapping[str, float]
    enhanced: Mapping[str, float]

    @property
    def pair(self) -> tuple[int, int]:
        """(N, tau)."""
        return self.n, self.tau


_VALUES = pa.map_(pa.string(), pa.float64())
CELL = pa.struct(
    [
        ("n", pa.int32()),
        ("tau", pa.int32()),
        ("niqe", pa.float64()),
        ("fidelity", pa.float64()),
        ("dr2", _VALUES),
        ("enhanced", _VALUES),
    ]
)
