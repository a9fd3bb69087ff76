"""``dr2e fit-niqe``: fit NIQE's model of good faces, and measure how well the score ranks known damage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from jobs.training.faces import LabelledPhoto, aligned_faces, held_out, load_labelled
from jobs.training.options import data_option
from operators.degrade.classical import draw
from operators.quality.niqe import Niqe
from operators.quality.niqe_fit import fit

LADDER = (("mild", 4), ("medium", 8), ("severe", 16))
"""Degradations (severity, r of Eq. 13) in rising order, after the clean face."""

MEASURED_FACES = 60
"""Held-out faces the ranking is measured on."""


@dataclass(frozen=True)
class Ranking:
    """How the score ranks clean, mild, medium and severe versions of held-out faces of one size.

    srocc: Spearman's rank correlation of score and level over all images; by_face: its mean within each face,
    where every face counts on its own; means: mean score per level, clean first.
    """

    size: int
    srocc: float
    by_face: float
    means: tuple[float, ...]


@click.command("fit-niqe")
@data_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="FILE.safetensors.")
@click.option("--size", default=128, show_default=True, help="Side of the aligned faces the model is fitted on.")
@click.option("--patch", default=32, show_default=True, help="Side of the square patches NIQE looks at.")
@click.option("--sharpness", default=0.75, show_default=True, help="Use patches this sharp, of each face's sharpest.")
@click.option("--storage-options", default="{}", help="JSON passed to fsspec for s3:// and the like.")
def command(data: tuple[str, ...], out: Path, size: int, patch: int, sharpness: float, storage_options: str) -> None:
    """Fit the pristine model of NIQE to labelled shards; write FILE and a model card beside it."""
    aside: list[LabelledPhoto] = []

    def training_photos() -> Iterator[LabelledPhoto]:
        for photo in load_labelled(data, json.loads(storage_options)):
            if not held_out(photo.key):
                yield photo
            elif photo.landmarks is not None and len(aside) < MEASURED_FACES:
                aside.append(photo)

    keys, faces = aligned_faces(training_photos(), size)
    niqe = fit(faces, patch, sharpness)
    fitted = {"size": size, "sharpness": sharpness, "faces": len(keys)}
    niqe.save(out, {"name": "dr2e-niqe", "licence": "Apache-2.0", **fitted})
    rankings = [rank(niqe, aligned_faces(aside, at)[1]) for at in (size, 2 * size)] if aside else []
    out.with_suffix(".md").write_text(card(fitted, patch, rankings, len(aside)), encoding="utf-8")
    for ranking in rankings:
        click.echo(f"{ranking.size} px: SROCC {ranking.srocc:.3f}, within a face {ranking.by_face:.3f}")
    click.echo(f"{out}: fitted to {len(keys)} faces, the held-out tenth left out")


def rank(niqe: Niqe, faces: NDArray[np.uint8]) -> Ranking:
    """Scores (M, S, S, 3) uint8 faces clean and along LADDER, with degradations seeded by the face's position."""
    size = faces.shape[1]
    versions = [faces]
    for severity, r in LADDER:
        rngs = [np.random.default_rng([position, r]) for position in range(len(faces))]
        pairs = zip(faces, rngs, strict=True)
        versions.append(np.stack([draw(severity, r, rng, size).apply(face, rng) for face, rng in pairs]))
    tensors = (torch.from_numpy(version).permute(0, 3, 1, 2).float() / 255 for version in versions)
    scores = np.stack([niqe.score(tensor) for tensor in tensors])
    levels = np.arange(len(versions))
    return Ranking(
        size=size,
        srocc=float(spearmanr(np.repeat(levels, len(faces)), scores.ravel()).statistic),
        by_face=float(np.mean([spearmanr(levels, of_face).statistic for of_face in scores.T])),
        means=tuple(float(mean) for mean in scores.mean(axis=1)),
    )


def card(fitted: Mapping[str, object], patch: int, rankings: list[Ranking], measured: int) -> str:
    """The model card, Markdown: what the model is, what it was fitted on and what was measured."""
    levels = ["clean", *(f"{severity}, r = {r}" for severity, r in LADDER)]
    header = ["face size", "SROCC", "SROCC within a face", *(f"mean, {level}" for level in levels)]
    rows = [
        [f"{r.size} px", f"{r.srocc:.3f}", f"{r.by_face:.3f}", *(f"{mean:.2f}" for mean in r.means)] for r in rankings
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])
    return f"""# niqe.safetensors

The pristine model of NIQE (Mittal, Soundararajan and Bovik 2013): mean and covariance of 36 features over
{patch} x {patch} px patches of good faces. Lower scores are more natural. Licence of the numbers: Apache-2.0;
pyiqa, which computes the features, has a noncommercial licence.

Fitted by `dr2e fit-niqe` to {fitted["faces"]} aligned faces of {fitted["size"]} px, of each the patches at least
{fitted["sharpness"]:g} times as sharp as its sharpest. The tenth of the faces held out by the CRC-32 of their key
took no part.

Measured on {measured} held-out faces, clean and degraded by Eq. 13 of DR2E (stated at 512 px, scaled to the face):

{table}

SROCC is Spearman's rank correlation between the score and the level of degradation (0 to {len(LADDER)}).

What it cannot do: it compares texture statistics, so it does not notice a wrong identity or an invented detail,
and it calls a noisy face better than an equally damaged smooth one where the noise resembles skin or hair.
"""
