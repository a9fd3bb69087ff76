"""Fitting the policy to faces whose whole grid is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.quality.selection import Pair, Policy, describe

PROBE = (2, 4, 8)
"""Steps of 100, at N = 1."""

PAIRS: tuple[Pair, ...] = (
    *((1, tau) for tau in (1, 2, 4, 8)),
    *((2, tau) for tau in (0, 4, 8, 12)),
    *((4, tau) for tau in (4, 8, 12, 16, 20, 28, 36)),
    *((8, tau) for tau in (12, 20, 28, 36)),
)
"""(N, tau step) that may be chosen: spaced so that neighbours differ visibly. N = 16 and larger tau were never the
best pair of a face the built-in models were tried on."""

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Of ridge regression, tried in turn."""

RARE = 0.01
"""Share of degraded faces whose own NIQE is below `natural`, and of best pairs whose fidelity is below `faithful`."""

_FOLDS = 10


@dataclass(frozen=True, eq=False)
class Examples:
    """Faces to fit to.

    scores: (F, 1 + len(PROBE)) float64, NIQE of the face and of its probe. qualities: (F, len(PAIRS)) float64, of each
    pair's result, higher is better. fidelities: the same shape. degraded: (F,) bool. groups: (F,) int; faces that
    share theirs are in one fold of the cross-validation.
    """

    scores: NDArray[np.float64]
    qualities: NDArray[np.float64]
    fidelities: NDArray[np.float64]
    degraded: NDArray[np.bool_]
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """policy: on all examples. penalty: of the regression.

    kept: share of the faces that are not degraded whose NIQE is at most `natural`; None without such faces.
    quality, best_pair, best: mean quality over degraded faces of the cross-validated choice, of the one pair that is
    best on these faces, and of every face's best pair.
    """

    policy: Policy
    penalty: float
    kept: float | None
    quality: float
    best_pair: float
    best: float


def fit(examples: Examples) -> Fitted:
    """Ridge regression of each pair's gain on the scores; the penalty by cross-validation over groups, and of those
    that are as good the heaviest (the one-standard-error rule).

    `natural` and `faithful` follow from RARE: hardly any degraded face is taken for a good one, hardly any best pair
    refused. Raises ValueError with fewer than two groups of degraded faces.
    """
    known = np.isfinite(examples.scores[:, 0])
    rows = np.flatnonzero(examples.degraded & known)
    if len(np.unique(examples.groups[rows])) < 2:
        raise ValueError("fitting needs at least two groups of degraded faces")
    folds = np.searchsorted(np.unique(examples.groups[rows]), examples.groups) % _FOLDS

    def validated(penalty: float) -> NDArray[np.int64]:
        chosen = np.zeros(len(rows), np.int64)
        for fold in np.unique(folds[rows]):
            inside, outside = rows[folds[rows] != fold], rows[folds[rows] == fold]
            centre, scale, weights = _regress(examples, inside, penalty)
            predicted = describe(examples.scores[outside], centre, scale) @ weights.T
            chosen[folds[rows] == fold] = predicted.argmax(axis=1)
        return chosen

    qualities = examples.qualities[rows]
    every = np.arange(len(rows))
    by_penalty = {penalty: qualities[every, validated(penalty)] for penalty in PENALTIES}
    penalty = _heaviest(by_penalty)
    centre, scale, weights = _regress(examples, rows, penalty)
    best = examples.fidelities[rows][every, qualities.argmax(axis=1)]
    policy = Policy(
        natural=float(np.quantile(examples.scores[rows, 0], RARE)),
        faithful=round(float(np.quantile(best, RARE)), 3),
        probe=PROBE,
        pairs=PAIRS,
        centre=centre,
        scale=scale,
        weights=weights,
    )
    return Fitted(
        policy=policy,
        penalty=penalty,
        kept=float((clean <= policy.natural).mean()) if len(clean := examples.scores[~examples.degraded, 0]) else None,
        quality=float(by_penalty[penalty].mean()),
        best_pair=float(qualities.mean(axis=0).max()),
        best=float(qualities.max(axis=1).mean()),
    )


def _regress(
    examples: Examples, rows: NDArray[np.int64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """centre, scale and weights from some rows."""
    scores = np.where(np.isfinite(examples.scores[rows]), examples.scores[rows], np.nan)
    centre, scale = np.nanmean(scores, axis=0), np.nanstd(scores, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    inputs = describe(examples.scores[rows], centre, scale)
    gains = examples.qualities[rows] - examples.qualities[rows].mean(axis=1, keepdims=True)
    ridge = penalty * np.eye(inputs.shape[1])
    ridge[0, 0] = 0.0  # the mean of a pair is not held back
    return centre, scale, np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ gains).T


def _heaviest(by_penalty: Mapping[float, NDArray[np.float64]]) -> float:
    """The heaviest penalty whose quality is at most one standard error of the difference below the best one's."""
    best = max(by_penalty.values(), key=lambda qualities: float(qualities.mean()))

    def as_good(qualities: NDArray[np.float64]) -> bool:
        lost = best - qualities
        return bool(lost.mean() <= lost.std() / np.sqrt(len(lost)))

    return max(penalty for penalty, qualities in by_penalty.items() if as_good(qualities))


def score_columns(niqe: float | None, probe: Sequence[float | None]) -> list[float]:
    """A row of `Examples.scores`; None becomes inf."""
    return [float("inf") if score is None else float(score) for score in (niqe, *probe)]
