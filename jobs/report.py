"""``dr2e report``: the page that shows an output to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from jobs.options import parse_storage, storage_options
from jobs.status import opened, product_of
from pipeline.output import Output


def report(output: str, storage: Mapping[str, Any] | None = None) -> str:
    """Write the page about an output from what is committed there; returns its URL.

    Raises ConfigError where no run was started, StorageError, LedgerError.
    """
    return write_page(opened(output, storage))


def write_page(output: Output) -> str:
    """Write report.html, or the data card of training pairs; returns its URL."""
    if product_of(output) == "pairs":
        from pipeline.pairs.card import README, publish

        publish(output)
        return f"{output.location.url}/{README}"
    from pipeline.report import write_report

    return write_report(output)


@click.command("report")
@click.argument("output")
@storage_options
def command(output: str, storage_options: str | None) -> None:
    """Write OUTPUT/report.html: faces before and after, scores, time by stage, the quarantine.

    It is one file that needs no network, and may be written at any time, also during a run. Of the output of 'dr2e
    pairs' it is the data card, OUTPUT/README.md, and what lies beside it.

    \b
    dr2e report out
    dr2e report s3://archive/restored
    """
    click.echo(report(output, parse_storage(storage_options)))
