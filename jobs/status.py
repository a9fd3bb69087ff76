"""``dr2e status``: what an output holds so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import click

from jobs.options import as_json, parse_storage, storage_options
from pipeline.config import ConfigError
from pipeline.output import Output, Status


def status(output: str, storage: Mapping[str, Any] | None = None) -> Status:
    """Sums over the commit records of an output, during a run or after it; reads storage alone.

    Raises ConfigError where no run was started, StorageError, LedgerError.
    """
    return opened(output, storage).status()


def opened(output: str, storage: Mapping[str, Any] | None) -> Output:
    """The output of a run. Raises ConfigError where there is none."""
    found = Output(output, storage)
    if found.run() is None:
        raise ConfigError(f"{found.location.url}: no run was started here; check the path")
    return found


def product_of(output: Output) -> Literal["photos", "pairs", "faces"]:
    """What it holds: restored photos, or what `dr2e pairs` or `dr2e curate` makes. Raises StorageError, LedgerError."""
    config = (output.run() or {}).get("config") or {}
    return "pairs" if config.get("pairs") else "faces" if config.get("keep") else "photos"


def table(status: Status) -> str:
    """The counts for a person."""
    counts = status.counts
    lines = [
        f"photos       {counts['photos']:,}: {counts['restored']:,} restored, {counts['no_face']:,} without a face, "
        f"{counts['rejected']:,} quarantined",
        f"faces        {counts['faces']:,}: {counts['faces_restored']:,} restored, "
        f"{counts['faces_kept']:,} kept as they were",
        f"evaluations  {counts['evaluations']:,} of the prior",
        f"units        {status.units:,} committed, {status.bytes / 1e6:,.1f} MB",
    ]
    lines += [f"quarantined  {count:,} x {code}" for code, count in status.errors.items()]
    lines += [f"time         {seconds:,.1f} s in {stage}" for stage, seconds in status.seconds.items()]
    if status.units_open:
        lines.append(f"open         {status.units_open:,} units of shards begun; run 'dr2e restore' again to finish")
    return "\n".join(lines)


@click.command("status")
@click.argument("output")
@storage_options
@as_json
def command(output: str, storage_options: str | None, as_json: bool) -> None:
    """Count what OUTPUT holds, during a run or after it.

    \b
    dr2e status out
    dr2e status s3://archive/restored --json
    """
    found = status(output, parse_storage(storage_options))
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else table(found))
