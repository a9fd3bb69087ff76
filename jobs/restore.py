"""``dr2e restore``: restore the faces of photographs, or go on with it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import click

from jobs.cli import QUARANTINED, SIGNALLED, complain
from jobs.images import image_config, names_images, unpack_restored
from jobs.options import as_json, config_from, events, metrics_port, run_options
from jobs.status import table
from pipeline.config import Config, ConfigError, build
from pipeline.driver import execute, prepare
from pipeline.events.lines import events_to
from pipeline.ledger import REPORT, LedgerError
from pipeline.output import Output, Status
from pipeline.storage import StorageError


@dataclass(frozen=True)
class Summary:
    """A finished run. report: URL of its page; photos: folder of restored files when the input was images;
    was_complete: nothing was left to do; status: what the output holds."""

    output: str
    report: str
    photos: str | None
    was_complete: bool
    status: Status

    @property
    def quarantined(self) -> int:
        """Photos that were rejected, each with a reason."""
        return self.status.counts["rejected"]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "status": self.status.to_dict()}


def restore(
    config: Config | Mapping[str, Any], *, address: str | None = None, progress: TextIO | None = None
) -> Summary:
    """Restore what ``config`` names and has not been restored yet; returns when all is done.

    config: a Config or nested settings, as in a configuration file. address: of a Ray cluster; without one Ray
    starts on this machine, unless the caller is connected already. progress: where progress goes (stderr).

    Raises ConfigError, ModelError, InputError, RunMismatch, ShardChanged or StorageError before Ray starts,
    ClusterError when it cannot, RunFailed when units stay undone.
    """
    config = config if isinstance(config, Config) else build(config)
    require_photos(config)
    images = names_images(config)
    prepared = prepare(image_config(config) if images else config)
    output, was_complete = prepared.run.output, prepared.plan.complete
    execute(prepared, address, progress)
    with completing(was_complete):
        return _summary(output, images, was_complete)


def require_photos(config: Config) -> None:
    """Raises ConfigError for settings that make something else than restored photos."""
    if config.pairs is not None:
        raise ConfigError("pairs: these settings make training pairs, which is what 'dr2e pairs' does")
    if config.keep is not None:
        raise ConfigError("keep: these settings keep faces to train on, which is what 'dr2e curate' does")


def _summary(output: Output, images: bool, was_complete: bool) -> Summary:
    """What a complete output gives: the restored photos as files where they came as files, the report, the counts."""
    photos = unpack_restored(output) if images else None
    if was_complete and output.location.exists(REPORT):
        report = f"{output.location.url}/{REPORT}"
    else:
        from pipeline.report import write_report

        report = write_report(output)
    return Summary(output.location.url, report, photos, was_complete, output.status())


class Interrupted(BaseException):
    """A signal asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible(told: str = "the same command continues from what is committed") -> Iterator[None]:
    """End the command on SIGINT and SIGTERM with its exit code and a line, after Ray was shut down on the way out.

    told: what becomes of the work, behind "interrupted; ".
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Interrupted as error:
        complain(f"interrupted; {told}", "warning")
        click.get_current_context().exit(SIGNALLED + error.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def completing(was_complete: bool) -> Iterator[None]:
    """For what follows the last commit: an error of storage then fails a run that had something to do, and may be
    repeated, and is one of usage where nothing was left to do. Raises RunFailed, StorageError or LedgerError."""
    try:
        yield
    except (StorageError, LedgerError) as error:
        if was_complete:
            raise
        from pipeline.rounds import RunFailed

        raise RunFailed(f"every unit is committed, but {error}; run it again for what is missing") from error


@click.command("restore")
@run_options
@click.option("--address", metavar="ADDRESS", help="A Ray cluster; else RAY_ADDRESS; else Ray starts on this machine.")
@events
@metrics_port
@as_json
@click.pass_context
def command(context: click.Context, /, address: str | None, events: Path | None, as_json: bool, **options: Any) -> None:
    """Restore the faces of photographs.

    Reads images or WebDataset shards, finds the faces, removes their degradation by DR2, sharpens them and puts them
    back. Everything is written below --output. Run the same command again to resume: what is committed is not done
    again, and a finished run says so.

    \b
    One photograph; the result is out/restored/photo.png:
      dr2e restore --input photo.jpg --output out
    A folder of shards, or of images:
      dr2e restore --input shards/ --output out
    A bucket, on a Ray cluster, with settings from a file:
      dr2e restore --input 's3://archive/{000..999}.tar' --output s3://archive/restored \\
          --config run.yaml --address auto
    A fixed strength instead of a choice per face:
      dr2e restore --input shards/ --output out --n 4 --tau 280

    Exit codes: 0 complete, 1 failed, 2 usage or configuration, 3 complete with quarantined photos, 128+n signal n.
    """
    with interruptible(), events_to(events):
        summary = restore(config_from(**options), address=address)
    if as_json:
        click.echo(json.dumps(summary.to_dict(), indent=1))
    else:
        click.echo(describe(summary))
    context.exit(QUARANTINED if summary.quarantined else 0)


def describe(summary: Summary) -> str:
    """The summary for a person."""
    lines = ["nothing was left to do: this run is complete"] if summary.was_complete else []
    lines += [table(summary.status), f"output       {summary.output}"]
    if summary.photos:
        lines.append(f"photos       {summary.photos}")
    lines.append(f"report       {summary.report}")
    return "\n".join(lines)
