"""``dr2e status``: what an output holds so far."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click

from jobs.options import as_json, parse_storage, storage_options
from pipeline.config import ConfigError
from pipeline.executions import Execution, history
from pipeline.output import Output, Status
from pipeline.pace import Pace, PaceKeeper
from pipeline.progress import clock


@dataclass(frozen=True)
class Seen:
    """What storage tells of a run. pace: None where no execution over the input is recorded. at: when it was
    asked, UTC."""

    url: str
    status: Status
    pace: Pace | None
    executions: Sequence[Execution]
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        return {**self.status.to_dict(), "pace": self.pace and asdict(self.pace)}

    def to_html(self) -> str:
        """A page that stands alone."""
        from pipeline.report.progress import render_progress

        return render_progress(self.url, self.status, self.pace, self.executions, self.at)


def status(output: str, storage: Mapping[str, Any] | None = None) -> Status:
    """Sums over the commit records of an output, during a run or after it; reads storage alone.

    Raises ConfigError where no run was started, StorageError, LedgerError.
    """
    return opened(output, storage).status()


def look(output: Output) -> Seen:
    """The status of a run, its pace and its history. Raises StorageError, LedgerError."""
    executions, now = history(output.location), datetime.now(UTC)
    latest = next((execution for execution in reversed(executions) if execution.shards), None)
    keeper = PaceKeeper(latest, now) if latest else None
    status = output.status(keeper.add if keeper else None)
    return Seen(output.location.url, status, keeper.pace() if keeper else None, executions, now)


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
        f"evaluations  {counts['evaluations']:,} of the network",
        f"units        {status.units:,} committed, {status.bytes / 1e6:,.1f} MB",
    ]
    lines += [f"quarantined  {count:,} x {code}" for code, count in status.errors.items()]
    lines += [f"time         {seconds:,.1f} s in {stage}" for stage, seconds in status.seconds.items()]
    if status.units_open:
        lines.append(f"open         {status.units_open:,} units of shards begun; run 'dr2e restore' again to finish")
    return "\n".join(lines)


def progress(pace: Pace) -> str:
    """The pace for a person, in one line."""
    parts = [f"{pace.state}, {pace.share:.1%} of the input's bytes", f"{pace.photos_per_second:.2f} photos/s"]
    parts.append(f"{pace.faces_per_second:.2f} faces/s")
    if pace.seconds_left is not None:
        parts.append(f"{clock(pace.seconds_left)} left")
    if pace.silent_seconds is not None:
        parts.append(f"last commit {clock(pace.silent_seconds)} ago")
    return ", ".join(parts)


@click.command("status")
@click.argument("output")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page instead; - is the output.")
@storage_options
@as_json
def command(output: str, html: Path | None, storage_options: str | None, as_json: bool) -> None:
    """Count what OUTPUT holds, and say how far and how fast it is, during a run or after it.

    Reads storage alone, so it may be asked from anywhere. Whether an execution that has not ended is at work nobody can
    tell from there; see how long ago it last committed.

    \b
    dr2e status out
    dr2e status s3://archive/restored --json
    dr2e status s3://archive/restored --html progress.html
    """
    seen = look(opened(output, parse_storage(storage_options)))
    if html is not None:
        _write(html, seen.to_html())
    elif as_json:
        click.echo(json.dumps(seen.to_dict(), indent=1))
    else:
        click.echo("\n".join([*([f"progress     {progress(seen.pace)}"] if seen.pace else []), table(seen.status)]))


def _write(file: Path, page: str) -> None:
    if str(file) == "-":
        sys.stdout.write(page)
        return
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {file}: {error.strerror}") from None
