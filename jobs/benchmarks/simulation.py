"""``dr2e bench simulation``: what `dr2e plan --simulate` foretells, beside runs on Ray that took place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from jobs.benchmarks.graph import PARTS, Actors, Course, cpus_for, run_simulated, simulated_config
from jobs.benchmarks.host import cpu, load
from jobs.options import as_json
from pipeline.output import Output
from pipeline.resources import Node, sizes
from pipeline.session import session
from pipeline.simulation.estimate import pools_of
from pipeline.simulation.flow import simulate
from pipeline.simulation.rates import Rates
from pipeline.simulation.stages import Naps

MOST_FACES = 3


@dataclass(frozen=True)
class Shape:
    """A run. naps: as seconds of a unit of twice as many faces as photos, which is the mean."""

    name: str
    actors: Actors
    naps: Naps


@dataclass(frozen=True)
class Check:
    """units_per_second: see `Course.pace`; foretold: likewise; error: of that, as a share of the run's."""

    shape: str
    units: int
    units_per_second: float
    foretold: float

    @property
    def error(self) -> float:
        return self.foretold / self.units_per_second - 1


@click.command("simulation")
@click.option("--units", default=48, show_default=True, help="Units of each run.")
@click.option("--unit-seconds", default=2.0, show_default=True, help="Sleep of Restore for a unit, on average.")
@as_json
def command(units: int, unit_seconds: float, as_json: bool) -> None:
    """Hold the simulation of 'dr2e plan' against runs on Ray, whose stages are SIMULATED by sleeps.

    For each kind of work a narrow run, one actor of each stage, gives the rates: its commit records, as 'dr2e plan'
    reads them. From these the wide runs are foretold, and then made: 1, 2, 4 and 8 Restore actors, with a slow commit,
    and with a slow Detect. The time goes from when all Restore actors are at work to the last commit.
    """
    checks = measure(shapes(unit_seconds), units)
    if as_json:
        rows = [{**asdict(check), "error": check.error} for check in checks]
        click.echo(json.dumps({"machine": cpu(), "load": load(), "checks": rows}, indent=1))
    else:
        click.echo(f"{cpu()}; load of the machine {load()}\n\n{table(checks)}")


def shapes(unit_seconds: float) -> list[Shape]:
    """Those that are compared."""
    each = unit_seconds / 8  # faces of a unit on average
    usual = Naps(detect=each / 5, restore=each, enhance=each / 10, most_faces=MOST_FACES)
    slow_commit = Naps(detect=each / 5, restore=each, enhance=each / 10, commit=3 * each, most_faces=MOST_FACES)
    slow_detect = Naps(detect=2 * each, restore=each, enhance=each / 10, most_faces=MOST_FACES)
    return [
        *(Shape(f"{count} Restore", Actors(restore=count), usual) for count in (1, 2, 4, 8)),
        Shape("4 Restore, commits slow and 2 at a time", Actors(restore=4, commit_cpus=4), slow_commit),
        Shape("4 Restore, Detect slow", Actors(restore=4), slow_detect),
        Shape("4 Restore, Detect slow, 3 of it", Actors(restore=4, detect=3), slow_detect),
    ]


def measure(wanted: Sequence[Shape], units: int) -> list[Check]:
    """The runs one after the other, on one Ray."""
    checks: list[Check] = []
    narrow: dict[Naps, Rates] = {}
    most = max(shape.actors.restore for shape in wanted)
    with tempfile.TemporaryDirectory(prefix="dr2e-bench-") as folder, session(cpus=cpus_for(most)) as machines:
        cpus = sum(machine.cpus for machine in machines)
        for number, shape in enumerate(wanted):
            if shape.naps not in narrow:
                run_simulated(Path(folder) / f"{number}-narrow", Actors(), shape.naps, units)
                records = Output(str(Path(folder) / f"{number}-narrow" / "out")).records()
                narrow[shape.naps] = Rates.of(records, "the narrow run")
            course = run_simulated(Path(folder) / str(number), shape.actors, shape.naps, units)
            told = foretell(shape.actors, narrow[shape.naps], cpus)
            checks.append(Check(shape.name, units, course.pace, told.pace))
    return checks


def foretell(actors: Actors, rates: Rates, cpus: float) -> Course:
    """How a run of `actors` would go over the units that `rates` were measured on, taken in their order."""
    config = simulated_config(Path("in"), Path("out"), actors)
    pools = pools_of(sizes(config.resources, [Node(cpus, 0)]), config, cpus)
    flow = simulate(rates.seconds, pools, parts=PARTS)
    served: list[list[tuple[float, float]]] = [[] for _ in range(actors.restore)]
    for worker, begin, end in zip(flow.worker["restore"], flow.begin["restore"], flow.end["restore"], strict=True):
        served[worker].append((float(begin), float(end)))
    return Course([units for units in served if units], [float(second) for second in flow.commits])


def table(checks: Sequence[Check]) -> str:
    """Markdown."""
    lines = ["| simulated stages | units | units/s on Ray | foretold | error |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {one.shape} | {one.units} | {one.units_per_second:.3g} | {one.foretold:.3g} | {one.error:+.1%} |"
        for one in checks
    ]
    return "\n".join(lines)
