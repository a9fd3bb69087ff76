"""``dr2e history``: what was done to an output, execution by execution."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from jobs.options import as_json, parse_storage, storage_options
from jobs.status import opened
from pipeline.executions import Execution
from pipeline.executions import history as executions
from pipeline.progress import clock

NOT_ENDED = "not ended: it is at work, or was killed"


def history(output: str, storage: Mapping[str, Any] | None = None) -> list[Execution]:
    """The executions of an output, the first one first; reads storage alone.

    Raises ConfigError where no run was started, StorageError, LedgerError.
    """
    return executions(opened(output, storage).location)


def table(found: Sequence[Execution]) -> str:
    """A line per execution, the last one last."""
    head = ("began", "work", "took", "new shards", "new MB", "photos", "faces", "rejected", "changed", "gone", "end")
    rows = [head, *(_row(execution) for execution in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]

    def line(row: Sequence[str]) -> str:
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:-1], widths[2:], strict=True)]
        return "  ".join([*words, *numbers, row[-1]])

    return "\n".join(map(line, rows))


def _row(one: Execution) -> tuple[str, ...]:
    began = f"{one.began:%Y-%m-%d %H:%M:%S}"
    took = "" if one.seconds is None else clock(one.seconds)
    end = NOT_ENDED if one.ended is None else f"{one.outcome}{one.reason and f': {one.reason}'}"
    counts = (one.new_shards, round(one.new_bytes / 1e6), one.photos, one.faces, one.rejected, one.changed, one.gone)
    return (began, one.work, took, *(f"{count:,}" for count in counts), end)


@click.command("history")
@click.argument("output")
@click.option("--last", type=click.IntRange(1), help="Only so many, the last ones.")
@storage_options
@as_json
def command(output: str, last: int | None, storage_options: str | None, as_json: bool) -> None:
    """Say what was done to OUTPUT, execution by execution, from storage alone; times are UTC.

    New shards are those that were not finished when it began; changed are shards that are not what their results came
    from; gone are shards that have results here and are no longer in the input. An execution without an end is at work,
    or was killed.

    \b
    dr2e history out
    dr2e history s3://archive/restored --last 7 --json
    """
    found = history(output, parse_storage(storage_options))[-last if last else 0 :]
    if as_json:
        told = [{**execution.model_dump(mode="json"), "seconds": execution.seconds} for execution in found]
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo(table(found) if found else "no execution is recorded here")
