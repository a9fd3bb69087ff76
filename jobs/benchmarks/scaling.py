"""``dr2e bench scaling``: units per second of the graph over the number of Restore actors, whose work is a sleep."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from jobs.benchmarks.graph import PHOTOS, Actors, cpus_for, run_simulated
from jobs.benchmarks.host import cpu, load
from jobs.options import as_json
from pipeline.session import session
from pipeline.simulation.stages import Naps


@dataclass(frozen=True)
class Width:
    """workers: of Restore. units: of a run. units_per_second: see `Course.pace`; the median of the rounds. linear: that
    as a share of `workers` times what an actor does that never waits. to_one: of `workers` times the rate measured with
    the fewest workers, per worker."""

    workers: int
    units: int
    units_per_second: float
    linear: float
    to_one: float


@click.command("scaling")
@click.option("--workers", default="1,2,4,8", show_default=True, help="Restore actors, with commas between.")
@click.option("--units", default=16, show_default=True, help="Units of each actor; as many runs are longer.")
@click.option("--unit-seconds", default=2.0, show_default=True, help="Sleep of Restore for a unit.")
@click.option("--rounds", default=1, show_default=True, help="Times each width is run, in turns; the median counts.")
@as_json
def command(workers: str, units: int, unit_seconds: float, rounds: int, as_json: bool) -> None:
    """Units per second with some SIMULATED Restore actors: their work is a sleep, all around it is real.

    Reading, blocks, Ray's graph in order, and commits to a local folder are those of a run, on a Ray that is told of
    as many CPUs as the actors ask for. So it says what the graph allows, not what restoring takes. Real units take
    minutes; shorter ones are harder on the graph. The time goes from when all actors are at work to the last commit.
    """
    found = measure(whole_numbers(workers, "--workers"), units, unit_seconds, rounds)
    if as_json:
        click.echo(json.dumps({"machine": cpu(), "load": load(), "widths": [asdict(one) for one in found]}, indent=1))
    else:
        click.echo(
            f"{cpu()}; load of the machine {load()}\nunits that sleep {unit_seconds:g} s in Restore\n\n{table(found)}"
        )


def whole_numbers(text: str, option: str) -> list[int]:
    """Raises BadParameter for anything but whole numbers above 0 with commas between."""
    try:
        numbers = [int(number) for number in text.split(",")]
        if min(numbers) < 1:
            raise ValueError("nothing")
    except ValueError:
        raise click.BadParameter(
            "whole numbers above 0 with commas between, such as 1,2,4", param_hint=option
        ) from None
    return numbers


def measure(workers: Sequence[int], units: int, unit_seconds: float, rounds: int) -> list[Width]:
    """The widths in turns, on one Ray. units: per actor."""
    naps = Naps(restore=unit_seconds / PHOTOS)
    rates: dict[int, list[float]] = {count: [] for count in workers}
    with tempfile.TemporaryDirectory(prefix="dr2e-bench-") as folder, session(cpus=cpus_for(max(workers))):
        for round_ in range(rounds):
            for count in workers:
                course = run_simulated(Path(folder) / f"{round_}-{count}", Actors(restore=count), naps, units * count)
                rates[count].append(course.pace)
    medians = {count: statistics.median(found) for count, found in rates.items()}
    fewest = min(workers)
    return [
        Width(
            count,
            units * count,
            rate,
            rate * unit_seconds / count,
            rate / count / (medians[fewest] / fewest),
        )
        for count, rate in medians.items()
    ]


def table(widths: Sequence[Width]) -> str:
    """Markdown."""
    fewest = min(width.workers for width in widths)
    lines = [
        f"| simulated Restore actors | units | units/s | of linear | of what each did with {fewest} |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.workers} | {one.units} | {one.units_per_second:.3g} | {one.linear:.1%} | {one.to_one:.1%} |"
        for one in widths
    ]
    return "\n".join(lines)
