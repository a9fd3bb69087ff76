"""``dr2e report``: the page that shows an output to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from jobs.options import parse_storage, storage_options
from jobs.status import opened
from pipeline.report import write_report


def report(output: str, storage: Mapping[str, Any] | None = None) -> str:
    """Write report.html into an output from what is committed there; returns its URL.

    Raises ConfigError where no run was started, StorageError, LedgerError.
    """
    return write_report(opened(output, storage))


@click.command("report")
@click.argument("output")
@storage_options
def command(output: str, storage_options: str | None) -> None:
    """Write OUTPUT/report.html: faces before and after, scores, time by stage, the quarantine.

    It is one file that needs no network, and may be written at any time, also during a run.

    \b
    dr2e report out
    dr2e report s3://archive/restored
    """
    click.echo(report(output, parse_storage(storage_options)))
