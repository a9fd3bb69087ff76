"""``dr2e compare``: two evaluations, face by face."""

from __future__ import annotations

import json

import click

from jobs.options import as_json, parse_storage, storage_options
from pipeline.storage import Location


@click.command("compare")
@click.argument("first")
@click.argument("second")
@storage_options
@as_json
def command(first: str, second: str, storage_options: str | None, as_json: bool) -> None:
    """Compare two evaluations of the same faces, FIRST and SECOND, made with other models or settings.

    Each face of one is compared with itself in the other, so that a small difference shows although faces differ much;
    what is better beyond the 95 % confidence interval of the mean difference is in bold.

    \b
      dr2e evaluate --input faces/ --held-out --output one
      dr2e evaluate --input faces/ --held-out --output two --enhancer training/enhancer.safetensors
      dr2e compare one two
    """
    from pipeline.evaluation.compare import compare, document, markdown, verdict

    options = parse_storage(storage_options)
    found = compare(Location(first, options), Location(second, options))
    if as_json:
        click.echo(json.dumps({"verdict": verdict(found), "differences": document(found)}, indent=1))
    else:
        click.echo(f"{markdown(found)}\n\n{verdict(found)}")
