"""``dr2e verify``: read an output back and check every byte of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import click
from tqdm import tqdm

from jobs.options import as_json, parse_storage, storage_options
from jobs.status import opened
from pipeline.storage import Location
from pipeline.verification import Checked, Journal, Sample, Verification, verify


class _SampleSize(click.ParamType):
    name = "sample"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Sample:
        try:
            return Sample.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("verify")
@click.argument("output")
@click.option("--sample", type=_SampleSize(), metavar="N|P%", help="Read back only N units, or P% of them.")
@click.option("--seed", default=0, show_default=True, help="Which units --sample draws.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Local file that notes what was read; the same command with it goes on where it stopped.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that read, each sixteen units at once; else as many as cores, 8 at most.",
)
@storage_options
@as_json
@click.pass_context
def command(
    context: click.Context,
    /,
    output: str,
    sample: Sample | None,
    seed: int,
    journal: Path | None,
    processes: int | None,
    storage_options: str | None,
    as_json: bool,
) -> None:
    """Read OUTPUT back: is everything there, as it was committed, and once?

    Every object is read and hashed once, the tars are compared with the manifest, and each finding comes with what
    to do about it. Nothing is written to OUTPUT, so credentials that may only read and list are enough.

    With --sample the cheap checks are still done for all units: that none is missing, that each record can be read
    and that its objects are there and as long as they were.

    \b
    dr2e verify out
    dr2e verify s3://archive/restored --journal verify.jsonl   # again after an interruption: goes on
    dr2e verify s3://archive/restored --sample 5% --seed 7     # another seed, other units
    dr2e verify out --json | jq -r '.findings[].remedy'

    A journal spares units that were found well and whose record has not changed. To look for bytes that have gone
    bad since, start a new one.

    Exits 0 when all is well, 1 with findings, 2 when it could not be checked.
    """
    place = opened(output, parse_storage(storage_options)).location
    drawn = sample and Sample(sample.count, sample.percent, seed)
    began = time.monotonic()
    with Journal(journal, place.url) if journal else nullcontext() as notes:
        found = _with_progress(place, drawn, notes, processes, quiet=as_json)
    if as_json:
        answer = {**asdict(found), "seconds": round(time.monotonic() - began, 3), "sampled": drawn is not None}
        click.echo(json.dumps(answer, indent=1))
    else:
        for finding in found.findings:
            click.echo(f"{finding.subject}: {finding.message} ({finding.code})\n    to do: {finding.remedy}")
        click.echo(summary(found, drawn is not None, time.monotonic() - began))
    context.exit(1 if found.findings else 0)


def summary(found: Verification, sampled: bool, seconds: float) -> str:
    """What was read, in how long, and how much was found."""
    covered = found.read + found.read_before
    lines = [
        f"{covered:,} of {found.units:,} units read back, {found.bytes / 1e6:,.1f} MB in {seconds:,.1f} s, "
        f"{len(found.findings):,} findings"
    ]
    if found.read_before:
        lines.append(f"{found.read_before:,} of these were read before, says the journal; their manifests were now")
    if sampled:
        lines.append("the others were only looked for; run without --sample to read all")
    return "\n".join(lines)


def _with_progress(
    place: Location, sample: Sample | None, journal: Journal | None, processes: int | None, quiet: bool
) -> Verification:
    with tqdm(unit=" units", desc="verify", disable=quiet) as bar:
        return verify(place, sample, journal, _shown(bar), processes)


def _shown(bar: tqdm) -> Callable[[Checked], None]:
    """Units done of all, units/s and time left as the bar has them, and MB/s."""
    read, began = 0, time.monotonic()

    def show(checked: Checked) -> None:
        nonlocal read
        read += checked.bytes
        bar.total = checked.units
        bar.set_postfix_str(f"{read / 1e6 / max(time.monotonic() - began, 1e-9):,.0f} MB/s", refresh=False)
        bar.update()

    return show
