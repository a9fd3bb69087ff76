"""``dr2e fit-niqe``: fit NIQE's model of good faces, and measure how well it and others rank known damage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from jobs.options import parse_storage, storage_options
from jobs.training.faces import LabelledPhoto, aligned_faces, load_labelled
from jobs.training.niqe_classic import load_classic
from jobs.training.niqe_ranking import LADDER, Row, ladder, rank, table
from jobs.training.options import data_option
from operators.quality.niqe import Niqe
from operators.quality.niqe_fit import fit
from operators.training.split import held_out

Pixels = NDArray[np.uint8]

MEASURED_FACES = 60
"""Held-out faces the ranking is measured on."""

PUBLISHED = """The published model has 96 px patches of natural photographs, too large for a 128 px face; not shipped.
BasicSR (PyPI `basicsr`, Apache-2.0; no licence is stated for the numbers) carries it as
`basicsr/metrics/niqe_pris_params.npz`, to be given as `--classic`."""


@click.command("fit-niqe")
@data_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="FILE.safetensors.")
@click.option("--size", default=128, show_default=True, help="Side of the aligned faces the model is fitted on.")
@click.option("--patch", default=32, show_default=True, help="Side of the square patches NIQE looks at.")
@click.option("--sharpness", default=0.75, show_default=True, help="Use patches this sharp, of each face's sharpest.")
@click.option(
    "--compare",
    multiple=True,
    type=int,
    help="Also fit and measure patches of this side, on faces of SIZE and twice SIZE. Repeatable.",
)
@click.option(
    "--classic",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Also measure the published model: its .mat, or BasicSR's niqe_pris_params.npz.",
)
@storage_options
def command(
    data: tuple[str, ...],
    out: Path,
    size: int,
    patch: int,
    sharpness: float,
    compare: tuple[int, ...],
    classic: Path | None,
    storage_options: str | None,
) -> None:
    """Fit the pristine model of NIQE to labelled shards; write FILE and a model card beside it."""
    aside: list[LabelledPhoto] = []
    options = parse_storage(storage_options)

    def training_photos() -> Iterator[LabelledPhoto]:
        aside.clear()
        for photo in load_labelled(data, options):
            if not held_out(photo.key):
                yield photo
            elif photo.landmarks is not None and len(aside) < MEASURED_FACES:
                aside.append(photo)

    def training_faces(side: int) -> Pixels:
        return aligned_faces(training_photos(), side)[1]

    faces = training_faces(size)
    if not aside and (compare or classic):
        raise click.UsageError("no held-out face to measure on, so there is nothing to compare")
    try:
        niqe = fit(faces, patch, sharpness)
    except ValueError as error:
        raise click.UsageError(f"--patch {patch}: {error}") from error
    fitted = {"size": size, "sharpness": sharpness, "faces": len(faces)}
    niqe.save(out, {"name": "dr2e-niqe", "licence": "Apache-2.0", **fitted})

    measured = [ladder(aligned_faces(aside, at)[1]) for at in (size, 2 * size)] if aside else []
    own = rows(niqe, f"faces of {size} px", measured)
    others = [
        row
        for side in ((size, 2 * size) if compare else ())
        for row in fits(
            faces if side == size else training_faces(side),
            {other for other in compare if (side, other) != (size, patch)},
            sharpness,
            measured,
        )
    ]
    if classic:
        others += classic_rows(classic, patch, measured)
    out.with_suffix(".md").write_text(card(fitted, patch, own, others, len(aside)), encoding="utf-8")
    if measured:
        click.echo(table([*own, *others]))
    click.echo(f"{out}: fitted to {len(faces)} faces, the held-out tenth left out")


def rows(niqe: Niqe, fitted: str, measured: Sequence[Pixels]) -> list[Row]:
    """The model's rankings of every `ladder` it can measure; `fitted` says to what it was fitted."""
    rankings = (rank(niqe, versions) for versions in measured)
    return [Row(fitted, niqe.patch, ranking) for ranking in rankings if ranking is not None]


def fits(faces: Pixels, patches: Iterable[int], sharpness: float, measured: Sequence[Pixels]) -> list[Row]:
    """Rankings of a model for each side of patches; a side that leaves too few patches to fit to is left out."""
    found = []
    for patch in sorted(patches):
        try:
            niqe = fit(faces, patch, sharpness)
        except ValueError as error:
            click.echo(f"left out: faces of {faces.shape[1]} px, patches of {patch} px: {error}")
            continue
        found += rows(niqe, f"faces of {faces.shape[1]} px", measured)
    return found


def classic_rows(path: Path, patch: int, measured: Sequence[Pixels]) -> list[Row]:
    """Rankings of the published model as it is, and with our patches, which fit into smaller faces."""
    published = rows(load_classic(path), "as published", measured)
    return published + rows(load_classic(path, patch), f"published, with {patch} px patches", measured)


def card(fitted: Mapping[str, object], patch: int, own: list[Row], others: list[Row], measured: int) -> str:
    """The model card, Markdown: what the model is, what it was fitted on and what was measured."""
    compared = f"\nOther models on the same images:\n\n{table(others)}\n\n{PUBLISHED}\n" if others else ""
    return f"""# niqe.safetensors

The pristine model of NIQE (Mittal, Soundararajan and Bovik 2013): mean and covariance of 36 features over
{patch} x {patch} px patches of good faces. Lower scores are more natural. Licence of the numbers: Apache-2.0;
pyiqa, which computes the features, has a noncommercial licence.

Fitted by `dr2e fit-niqe` to {fitted["faces"]} aligned faces of {fitted["size"]} px, of each the patches at least
{fitted["sharpness"]:g} times as sharp as its sharpest. The tenth of the faces held out by the CRC-32 of their key
took no part.

Measured on {measured} held-out faces, clean and degraded by Eq. 13 of DR2E (stated at 512 px, scaled to the face):

{table(own)}

SROCC is Spearman's rank correlation between the score and the level of degradation (0 to {len(LADDER)}), over all
images, and as its mean within each face.
{compared}
What it cannot do: it compares texture statistics, so it does not notice a wrong identity or an invented detail,
and it calls a noisy face better than an equally damaged smooth one where the noise resembles skin or hair.
"""
