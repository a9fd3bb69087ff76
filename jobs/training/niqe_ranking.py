"""How well a NIQE model ranks known damage: Spearman's correlation between its score and the level of degradation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from operators.degrade.classical import draw
from operators.quality.niqe import Niqe

LADDER = (("mild", 4), ("medium", 8), ("severe", 16))
"""Degradations (severity, r of Eq. 13) in rising order, after the clean face."""

LEVELS = ("clean", *(f"{severity}, r = {r}" for severity, r in LADDER))


@dataclass(frozen=True)
class Ranking:
    """How a model's score ranks clean, mild, medium and severe versions of held-out faces.

    Attributes:
        size: side of the faces in pixels.
        srocc: Spearman's rank correlation of score and level over all images.
        within_face: its mean within each face, where every face counts on its own.
        means: mean score per level, clean first.
        clean_p95: the score that 95 % of the clean faces stay below.
    """

    size: int
    srocc: float
    within_face: float
    means: tuple[float, ...]
    clean_p95: float


@dataclass(frozen=True)
class Row:
    """A ranking and the model it is of. fitted: to what the model was fitted, for people; patch: side in pixels."""

    fitted: str
    patch: int
    ranking: Ranking


def ladder(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(M, S, S, 3) faces -> (L, M, S, S, 3): clean and degraded along LADDER, seeded by the face's position."""
    size = faces.shape[1]
    versions = [faces]
    for severity, r in LADDER:
        rngs = [np.random.default_rng([position, r]) for position in range(len(faces))]
        pairs = zip(faces, rngs, strict=True)
        versions.append(np.stack([draw(severity, r, rng, size).apply(face, rng) for face, rng in pairs]))
    return np.stack(versions)


def rank(niqe: Niqe, versions: NDArray[np.uint8]) -> Ranking | None:
    """Scores the (L, M, S, S, 3) uint8 versions of `ladder`; None when one cannot be measured (too few patches)."""
    tensors = (torch.from_numpy(version).permute(0, 3, 1, 2).float() / 255 for version in versions)
    scores = np.stack([niqe.score(tensor) for tensor in tensors])
    if not np.isfinite(scores).all():
        return None
    levels = np.arange(len(versions))
    return Ranking(
        size=versions.shape[2],
        srocc=float(spearmanr(np.repeat(levels, versions.shape[1]), scores.ravel()).statistic),
        within_face=float(np.mean([spearmanr(levels, of_face).statistic for of_face in scores.T])),
        means=tuple(float(mean) for mean in scores.mean(axis=1)),
        clean_p95=float(np.quantile(scores[0], 0.95)),
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    header = ["fitted to", "patch", "scored at", "SROCC", "within a face", *(f"mean, {level}" for level in LEVELS)]
    header.append("95 % of clean below")
    cells = [
        [
            row.fitted, f"{row.patch} px", f"{row.ranking.size} px",
            f"{row.ranking.srocc:.3f}", f"{row.ranking.within_face:.3f}",
            *(f"{score:.2f}" for score in [*row.ranking.means, row.ranking.clean_p95]),
        ]
        for row in rows
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *cells])
