"""``dr2e inspect``: every candidate of a face as one picture, with its scores and the choice marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from operators.detect.align import AlignError, align
from operators.detect.contract import Detector
from operators.dr2.noise import FaceNoise
from operators.images import ImageError, decode
from operators.quality.selection import Candidate, Chain, Pair, Policy
from operators.restoration import STEP, DegradationRemover, Removal
from pipeline.config import load
from pipeline.filenames import plain_key
from pipeline.loaders import load_detector, load_prior
from pipeline.models import describe

Pixels = NDArray[np.uint8]

SCALES = (1, 2, 4, 8, 16)
TAUS = (0, 1, 2, 4, 8, 12, 16, 20, 28, 36)
"""The grid that is shown: low-pass scales, and steps of the schedule respaced to 100 (tau = 0 to 360 of 1000); every
pair that the built-in policy may choose is in it."""

_CAPTION = 30  # pixels below a picture for two lines of text
_INK, _PAPER, _MARK = (30, 30, 30), (255, 255, 255), (208, 60, 30)


@click.command("inspect")
@click.argument("photo", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=".", help="Folder for the pictures.")
@click.option("--prior", default="builtin", show_default=True, help="As for 'dr2e restore'.")
@click.option("--niqe", default="builtin", show_default=True, help="The judge, as restore.niqe of a run.")
@click.option("--policy", default="builtin", show_default=True, help="As for 'dr2e restore'.")
@click.option("--detector", default="builtin", show_default=True, help="As for 'dr2e restore'.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="As of a run: models.store=URL.")
@click.option("--seed", default=0, show_default=True, help="Seed of the noise, that of the run.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
def command(
    photo: Path,
    out: Path,
    prior: str,
    niqe: str,
    policy: str,
    detector: str,
    assignments: tuple[str, ...],
    seed: int,
    device: str,
) -> None:
    """Show what there was to choose from for each face of PHOTO, and what 'dr2e restore' chose.

    Writes OUT/NAME.faceNN.candidates.png per face: the face as it came, the choice, and DR2's result
    for every N and tau of a grid with its NIQE (lower is more natural) and its fidelity to the face. Pairs that may be
    chosen also say what the policy expects them to gain. The choice is framed; a run tries only a few cells.
    """
    from operators.quality.judge import load_judge

    models = {"restore.prior": prior, "restore.niqe": niqe, "restore.policy": policy, "detect.detector": detector}
    config = load(None, assignments, {"input": str(photo), "output": str(out), **models})
    describe(config)  # do they belong together?
    remover = DegradationRemover(
        load_prior(config, device), load_judge(niqe, device), seed=seed, select=Policy.load(policy)
    )
    key = plain_key(photo.name)
    try:
        crops = faces(photo, load_detector(config, device), remover.prior.size)
    except ImageError as error:
        raise click.ClickException(f"{photo}: {error.message}") from error
    if not crops:
        raise click.ClickException(f"{photo}: no face was found; another --detector may find one")
    out.mkdir(parents=True, exist_ok=True)
    removals = remover.remove(crops, [(key, index) for index in range(len(crops))])
    for index, (crop, removal) in enumerate(zip(crops, removals, strict=True)):
        path = out / f"{key}.face{index:02d}.candidates.png"
        Image.fromarray(picture(remover, crop, FaceNoise(seed, key, index), removal)).save(path)
        click.echo(f"{path}  {removal.status}: {removal.reason}")


def faces(photo: Path, detector: Detector, size: int) -> list[Pixels]:
    """The aligned faces of a photo, (size, size, 3) uint8, in the detector's order. Raises ImageError."""
    pixels = decode(photo.read_bytes()).pixels
    crops = []
    for found in detector.detect([pixels])[0]:
        try:
            crops.append(align(pixels, found.landmarks, size)[0])
        except AlignError:
            continue
    return crops


def picture(remover: DegradationRemover, crop: Pixels, noise: FaceNoise, removal: Removal) -> Pixels:
    """The grid of one face, (H, W, 3) uint8: a head line, then one line per N, one column per tau."""
    gains = promised(remover, removal)
    side = len(crop)
    chosen = f"N = {removal.n}, tau = {removal.tau}" if removal.status == "restored" else "kept as it came"
    head = _row([
        _cell(crop, ["as it came", f"NIQE {removal.niqe_in:.2f}"], False),
        _cell(removal.image, [f"choice: {chosen}", f"NIQE {removal.niqe_out:.2f}"], True),
    ])  # fmt: skip
    lines = [head]
    for n in SCALES:
        if side % n == 0:
            cells = [
                _cell(
                    image,
                    captions(candidate, gains.get((n, candidate.tau))),
                    (n, candidate.tau * STEP) == (removal.n, removal.tau),
                )
                for candidate, image in candidates(remover, n, crop, noise)
            ]
            lines.append(_row(cells))
    width = max(line.shape[1] for line in lines)
    return np.concatenate([np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255)
                           for line in lines])  # fmt: skip


def candidates(
    remover: DegradationRemover, n: int, crop: Pixels, noise: FaceNoise
) -> Sequence[tuple[Candidate, Pixels]]:
    """What one chain at scale n finds at TAUS, smallest tau first."""
    chain = Chain(n, Chain.to(n, max(TAUS)).omega, TAUS)
    return remover.candidates(chain, [crop], [noise])[0][::-1]


def promised(remover: DegradationRemover, removal: Removal) -> dict[Pair, float]:
    """What the policy expects of each pair it may choose; nothing when it was not asked."""
    if not isinstance(remover.select, Policy) or not removal.candidates:
        return {}
    found = [
        Candidate(c["n"], c["tau"] // STEP, float("inf") if c["niqe"] is None else c["niqe"], c["fidelity"])
        for c in removal.candidates
    ]
    return remover.select.gains(removal.niqe_in, found)


def captions(candidate: Candidate, gain: float | None) -> list[str]:
    """Two lines below a candidate. gain: what the policy expects of it, None where it may not choose it."""
    expected = "" if gain is None else f"  {gain:+.3f}"
    return [
        f"N {candidate.n}  tau {candidate.tau * STEP}{expected}",
        f"NIQE {candidate.niqe:.2f}  fid. {candidate.fidelity:.3f}",
    ]


def _cell(image: Pixels, lines: Sequence[str], marked: bool) -> Pixels:
    """A picture with its caption, framed when it is marked."""
    side = len(image)
    canvas = Image.new("RGB", (side + 8, side + 8 + _CAPTION), _PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=10)
    if marked:
        draw.rectangle((0, 0, side + 7, side + 7), fill=_MARK)
    canvas.paste(Image.fromarray(image), (4, 4))
    for number, line in enumerate(lines):
        draw.text((4, side + 9 + 13 * number), line, fill=_INK, font=font)
    return np.asarray(canvas)


def _row(cells: Sequence[Pixels]) -> Pixels:
    return np.concatenate(list(cells), axis=1)
