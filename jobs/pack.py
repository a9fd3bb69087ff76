"""``dr2e pack``: a folder or bucket of images to shards."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from tqdm import tqdm

from jobs.options import as_json, parse_storage, storage_options
from pipeline.packing import MAX_BYTES, MAX_SAMPLES, pack
from pipeline.storage import Location


@click.command("pack")
@click.argument("inputs", nargs=-1, required=True)
@click.argument("output")
@click.option("--prefix", default="photos", show_default=True, help="Start of the shards' names.")
@click.option(
    "--max-samples", type=click.IntRange(1), default=MAX_SAMPLES, show_default=True, help="Photos in a shard at most."
)
@click.option(
    "--max-mb", type=click.IntRange(1), default=MAX_BYTES // 2**20, show_default=True, help="MiB in a shard at most."
)
@storage_options
@as_json
def command(
    inputs: tuple[str, ...],
    output: str,
    prefix: str,
    max_samples: int,
    max_mb: int,
    storage_options: str | None,
    as_json: bool,
) -> None:
    """Pack the images of INPUTS (files, folders, bucket prefixes) into WebDataset shards below OUTPUT.

    Folders are searched at any depth; names are kept, and `dr2e unpack` gives them back. The same files
    give the same shards.

    \b
    dr2e pack scans/ shards/
    dr2e pack s3://archive/scans s3://archive/shards
    """
    options = parse_storage(storage_options)
    with tqdm(unit=" photos", desc="pack", disable=as_json or None) as bar:
        packed = pack(
            inputs,
            Location(output, options),
            options=options,
            prefix=prefix,
            max_samples=max_samples,
            max_bytes=max_mb * 2**20,
            on_photo=lambda _: bar.update() and None,
        )
    if as_json:
        click.echo(json.dumps(asdict(packed), indent=1))
        return
    click.echo(f"{packed.photos:,} photos in {len(packed.shards):,} shards, {packed.bytes / 1e6:,.1f} MB: {output}")
    if packed.skipped:
        kinds = ", ".join(f"{count:,} {extension}" for extension, count in packed.skipped.items())
        click.echo(f"left out, as no images by their names: {kinds}")
