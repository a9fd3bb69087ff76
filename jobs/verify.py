"""``dr2e verify``: read an output back and check every byte of it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from jobs.options import as_json, parse_storage, storage_options
from jobs.status import opened


@click.command("verify")
@click.argument("output")
@storage_options
@as_json
@click.pass_context
def command(context: click.Context, /, output: str, storage_options: str | None, as_json: bool) -> None:
    """Re-hash every committed object of OUTPUT, and check that no unit is missing and no photo there twice.

    Exits 0 when all is well, 1 with a line per finding when not.
    """
    found = opened(output, parse_storage(storage_options))
    units = 0

    def counted(_: object) -> None:
        nonlocal units
        units += 1

    findings = found.verify(counted)
    if as_json:
        click.echo(json.dumps({"units": units, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        for finding in findings:
            click.echo(f"{finding.subject}: {finding.message} ({finding.code})")
        click.echo(f"{units} units read back, {len(findings)} findings")
    context.exit(1 if findings else 0)
