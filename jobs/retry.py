"""``dr2e retry``: try quarantined photos once more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
import pyarrow as pa

from jobs.cli import QUARANTINED
from jobs.images import holds_images, unpack_restored
from jobs.options import as_json, events, metrics_port, parse_storage, storage_options
from jobs.report import write_page
from jobs.restore import interruptible
from jobs.status import opened, product_of
from pipeline.config import Config, ConfigError, load
from pipeline.events.lines import events_to
from pipeline.executions import Execution, chronicled, now
from pipeline.ledger import CommitRecord, LedgerError
from pipeline.models import describe
from pipeline.output import Output
from pipeline.parallel import ordered
from pipeline.replay import Attempt, Plan, Replay, make_plan
from pipeline.run import Run
from pipeline.storage import StorageError

_READERS = 16  # records and manifests read at once


@dataclass(frozen=True)
class Summary:
    """What came of a retry. tried: photos by the code they had been rejected with; restored, no_face, rejected: what
    became of them; beaten: photos not tried because another retry was at their units; left_out: photos that were not to
    be tried, by code; quarantined: photos of the output rejected now."""

    output: str
    tried: dict[str, int]
    restored: int
    no_face: int
    rejected: int
    beaten: int
    left_out: dict[str, int]
    quarantined: int


def retry(
    output: str,
    codes: Collection[str] = (),
    assignments: Collection[str] = (),
    *,
    storage: Mapping[str, Any] | None = None,
    address: str | None = None,
    progress: TextIO | None = None,
) -> Summary:
    """Do the rejected photos of ``output`` again with the settings of its run; see `pipeline.replay`.

    codes: only photos rejected for these reasons. assignments: "section.name=value" of ``limits`` and ``resources``.

    Raises ConfigError where no run was started, RunMismatch for other settings or models than the run's, StorageError,
    LedgerError, ClusterError, RunFailed.
    """
    found = opened(output, storage)
    run = run_again(found, assignments, storage or {})
    plan = make_plan(run.output, codes)
    if plan.attempts:
        from pipeline.passes import run_passes  # Ray, which nothing to do does without

        run.output.location.probe()
        begun = Execution(began=now(), work="retrying", version=run.versions["dr2e"])
        with chronicled(run.output.location, begun) as tally:
            run_passes(run, Replay(run.output, plan.attempts), address, progress, tally)
    try:
        if plan.attempts:
            finish(run.output)
        return summarise(run.output, plan, run.settings)
    except (StorageError, LedgerError) as error:
        if not plan.attempts:
            raise
        from pipeline.rounds import RunFailed

        raise RunFailed(f"the photos have been tried again, but {error}; run it again for what is missing") from error


def finish(output: Output) -> None:
    """What follows once photos have joined an output: files where they came as files, and the page about it."""
    if holds_images(output) and product_of(output) == "photos":
        unpack_restored(output)
    write_page(output)


def run_again(output: Output, assignments: Collection[str], storage: Mapping[str, Any]) -> Run:
    """The run of an output, its settings as recorded but for ``assignments``. Raises ConfigError, RunMismatch."""
    recorded = output.run() or {}
    if "config" not in recorded:
        raise ConfigError(f"{output.location.url}: its run.json holds no settings; restore into a new output")
    place = {"input": [f"{output.location.url}/rejects"], "output": output.location.url}
    sides = {side: dict(storage) for side in ("input", "output", "models")}
    config = load(None, assignments, base={**recorded["config"], **place, "storage": sides})
    before = load(None, base={**recorded["config"], **place})
    run = Run(config, describe(config), _differences(before, config))
    Run(config.model_copy(update={"limits": before.limits}), run.models).check(recorded)
    return run


def summarise(output: Output, plan: Plan, settings: Mapping[str, Any]) -> Summary:
    """What has become of the photos of a plan, by the records of its attempts.

    A record may be another retry's, which planned other photos of the unit or had other settings than these.
    """
    counts, tried = Counter[str](), Counter[str]()

    def read(attempt: Attempt) -> tuple[Attempt, CommitRecord, pa.Table]:
        record = output.record(attempt.unit)
        return attempt, record, output.manifest(record, ["key", "status"])

    for attempt, record, rows in ordered(read, plan.attempts, _READERS):
        became = dict(zip(rows.column("key").to_pylist(), rows.column("status").to_pylist(), strict=True))
        if record.settings != settings:
            became = {key: status for key, status in became.items() if status != "rejected"}
        for photo in attempt.photos:
            counts[became.get(photo.key, "beaten")] += 1
            if photo.key in became:
                tried[photo.code] += 1
    return Summary(
        output=output.location.url,
        tried=dict(tried.most_common()),
        restored=counts["restored"],
        no_face=counts["no_face"],
        rejected=counts["rejected"],
        beaten=counts["beaten"],
        left_out=dict((plan.unknown + plan.unwanted).most_common()),
        quarantined=output.status().counts["rejected"],
    )


def _differences(before: Config, now: Config) -> dict[str, Any]:
    """What decides the result and is set otherwise, by dotted name."""
    old = before.limits.model_dump()
    return {f"limits.{name}": value for name, value in now.limits.model_dump().items() if value != old[name]}


@click.command("retry")
@click.argument("output")
@click.option("--error", "codes", multiple=True, metavar="CODE", help="Only photos rejected so; may be repeated.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="limits.*, resources.*, models.* alone.")
@click.option("--dry-run", is_flag=True, help="Only say what would be tried again.")
@click.option("--address", metavar="ADDRESS", help="A Ray cluster; else RAY_ADDRESS; else Ray starts on this machine.")
@events
@metrics_port
@storage_options
@as_json
@click.pass_context
def command(
    context: click.Context,
    /,
    output: str,
    codes: tuple[str, ...],
    assignments: tuple[str, ...],
    dry_run: bool,
    address: str | None,
    events: Path | None,
    metrics_port: int | None,
    storage_options: str | None,
    as_json: bool,
) -> None:
    """Try the quarantined photos of OUTPUT again, after what stopped them has been mended.

    The photos come from the quarantine, so the input need not be there. They are done with the models and settings of
    their run; limits and resources may differ, and limits that do are recorded. What comes of them joins the output:
    nothing that is committed is changed, and each photo still counts once. Photos whose shard was damaged cannot be
    tried like this: mend the shard and restore it into a new output.

    \b
    Everything that could be tried again:
      dr2e retry out
    Photographs that were too large for the limits of the run:
      dr2e retry out --error image.too_large --set limits.max_pixels=900000000
    Photographs that killed or blocked their worker, with more time:
      dr2e retry out --error worker --set resources.isolated_seconds=7200

    Exit codes: 0 nothing is left in quarantine, 1 failed, 2 usage, 3 some photos are, 128+n signal n.
    """
    storage = parse_storage(storage_options)
    if dry_run:
        _tell_plan(make_plan(opened(output, storage), codes), as_json)
        return
    if metrics_port is not None:
        assignments = (*assignments, f"resources.metrics_port={metrics_port}")
    with interruptible("what is committed stays, and the same command tries the rest"), events_to(events):
        summary = retry(output, codes, assignments, storage=storage, address=address)
    click.echo(json.dumps(vars(summary), indent=1) if as_json else describe_summary(summary))
    context.exit(QUARANTINED if summary.quarantined else 0)


def describe_summary(summary: Summary) -> str:
    """The summary for a person."""
    tried = sum(summary.tried.values())
    nothing = "nothing was tried again" if summary.beaten else "there was nothing to try again"
    lines = [f"tried again  {tried:,} photos" if tried else nothing]
    lines += [f"             {count:,} x {code}" for code, count in summary.tried.items()]
    if tried:
        lines.append(
            f"became       {summary.restored:,} restored, {summary.no_face:,} without a face, "
            f"{summary.rejected:,} rejected again"
        )
    if summary.beaten:
        lines.append(
            f"not tried    {summary.beaten:,} photos: another retry was at their units at the same time; "
            "run it again for these"
        )
    lines += [f"left out     {count:,} x {code}" for code, count in summary.left_out.items()]
    return "\n".join([*lines, f"quarantined  {summary.quarantined:,} photos now"])


def _tell_plan(plan: Plan, as_json: bool) -> None:
    wanted = Counter(photo.code for attempt in plan.attempts for photo in attempt.photos)
    if as_json:
        told = {"tried": wanted, "units": len(plan.attempts), "unknown": plan.unknown, "unwanted": plan.unwanted}
        click.echo(json.dumps(told, indent=1))
        return
    lines = [f"would try    {count:,} x {code}" for code, count in wanted.most_common()]
    lines += [f"cannot       {count:,} x {code}: mend the shard" for code, count in plan.unknown.most_common()]
    lines += [f"leaves out   {count:,} x {code}" for code, count in plan.unwanted.most_common()]
    click.echo("\n".join(lines or ["nothing is in quarantine"]))
