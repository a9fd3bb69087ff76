"""``dr2e demo``: degrade a few public-domain photographs, restore them, and measure what came back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from jobs.demonstration.collection import SHARD, collection, write_collection
from jobs.demonstration.measure import compare, table
from jobs.restore import restore
from operators.images import decode
from operators.quality.niqe import Niqe
from pipeline.output import Output
from pipeline.storage import Location
from pipeline.unpacking import unpack


@click.command("demo")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="demo")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the damage and of the noise.")
def command(folder: Path, seed: int) -> None:
    """Restore a small degraded collection and show what came out.

    FOLDER (./demo unless given) receives the degraded shard, the run and the restored photographs; what an
    earlier demo left in it is replaced.
    """
    clear(folder)
    items = collection(seed)
    shard = write_collection(items, folder / "input")
    click.echo(f"{len(items)} photographs of public domain, degraded by Eq. 13: {shard}")

    # Small units: progress shows early, and the report has a strip of every face.
    units = {"max_samples": 3}
    summary = restore({"input": str(shard), "output": str(folder / "output"), "seed": seed, "unit": units})
    unpack(Output(summary.output), Location(folder / "photos"))

    comparisons = compare(items, read_photos(folder / "photos"), Niqe.load("builtin"))
    click.echo(f"\n{table(comparisons)}\n")
    click.echo("Means over faces, before -> after. PSNR and SSIM (higher is better): eyes, nose and mouth against")
    click.echo("the original. NIQE (lower is better): the aligned face, without a reference.\n")
    click.echo(f"photographs  {folder / 'photos'}")
    click.echo(f"report       {summary.report}")


def clear(folder: Path) -> None:
    """Remove an earlier demo. Raises click.UsageError for a folder with anything else in it."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "input" / SHARD).is_file():
        raise click.UsageError(f"{folder} holds other things than an earlier demo; name another folder")
    for part in ("input", "output", "photos"):
        shutil.rmtree(folder / part, ignore_errors=True)


def read_photos(folder: Path) -> Mapping[str, NDArray[np.uint8]]:
    """Key to pixels (H, W, 3) uint8 of the photographs in a folder."""
    return {path.stem: decode(path.read_bytes()).pixels for path in sorted(folder.glob("*.png"))}
