"""``dr2e unpack``: restored photos back to files."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from tqdm import tqdm

from jobs.options import as_json, parse_storage, storage_options
from jobs.status import opened, product_of
from pipeline.config import ConfigError
from pipeline.storage import Location
from pipeline.unpacking import unpack


@click.command("unpack")
@click.argument("output")
@click.argument("destination")
@storage_options
@as_json
def command(output: str, destination: str, storage_options: str | None, as_json: bool) -> None:
    """Write the restored photos of OUTPUT to files below DESTINATION, named as those they were packed from.

    Restored photos are PNG; photos without faces come back as they were. Existing files are never replaced.

    \b
    dr2e unpack out restored/
    """
    options = parse_storage(storage_options)
    source = opened(output, options)
    if (product := product_of(source)) != "photos":
        raise ConfigError(f"{output} holds {product} to train on and no photos; loaders read its tars as they are")
    with tqdm(unit=" photos", desc="unpack", disable=as_json or None) as bar:
        counts = unpack(source, Location(destination, options), lambda _: bar.update() and None)
    if as_json:
        click.echo(json.dumps(asdict(counts), indent=1))
        return
    click.echo(f"{counts.restored:,} restored photos and {counts.no_face:,} without a face written to {destination}")
    if counts.present:
        click.echo(f"{counts.present:,} files were there already and stay as they are")
    if counts.rejected:
        click.echo(f"{counts.rejected:,} photos are quarantined and have no result; 'dr2e status' counts the reasons")
