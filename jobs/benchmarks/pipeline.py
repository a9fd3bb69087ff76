"""``dr2e bench pipeline``: a whole run beside each of its stages alone, and how full the engine's batches are."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
from PIL import Image

from jobs.benchmarks.graph import timed_run, write_units
from jobs.benchmarks.host import cpu, load
from jobs.demonstration.collection import DOWNSAMPLING, degrade
from jobs.demonstration.photographs import eileen_collins, grace_hopper, side_by_side
from jobs.options import as_json
from pipeline.blocks import from_block
from pipeline.config import Config
from pipeline.config import load as load_config
from pipeline.inputs import resolve_inputs
from pipeline.models import describe
from pipeline.plan import make_plan
from pipeline.processes import ordered_in_processes
from pipeline.product import RESTORED
from pipeline.resources import Node, Sizes, sizes
from pipeline.run import Run
from pipeline.session import session
from pipeline.sink import Commit
from pipeline.source import read_shard
from pipeline.stages import Detect

PARTS = 4
"""Units of a shard."""

NICE = "RAY_worker_niceness"

BESIDE = "restore, beside another that is always busy"
RUN, STEADY, WHOLE = "run on Ray, start-up left out", "run on Ray, from a quarter on", "run on Ray, as a whole"


@dataclass(frozen=True)
class Way:
    """A stage alone, or the run. faces_per_second: the median of the rounds; rounds: of each."""

    way: str
    faces_per_second: float
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Efficiency:
    """ways: reading and the stages alone, then the run. slowest: stage. ratio: of the run, start-up left out, to
    that stage at its best; whole: with start-up; beside: of the run to Restore with a busy processor beside it. fill:
    share of the engine's batches that held a face, over all units."""

    faces: int
    units: int
    ways: tuple[Way, ...]
    slowest: str
    ratio: float
    beside: float
    whole: float
    fill: float


@click.command("pipeline")
@click.option("--units", default=16, show_default=True, help="Units of the run.")
@click.option("--photos", default=16, show_default=True, help="Photos of a unit.")
@click.option("--rounds", default=1, show_default=True, help="Times all is run, in turns; the medians count.")
@click.option("--threads", default=1, show_default=True, help="Torch threads of each stage, alone and in the run.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Of the run, such as restore.stride=10.")
@as_json
def command(units: int, photos: int, rounds: int, threads: int, assignments: tuple[str, ...], as_json: bool) -> None:
    """Faces per second of a run on Ray, beside each of its stages alone in a plain loop over the same units.

    A stage alone is warmed up with the first unit, has as many torch threads and the same batch as in the run, and no
    other stage beside it; Restore is run one unit after the other, and two at once, as its actor does, and then so once
    more while another process detects faces without end: where processors share what they are made of, or their
    memory, a run has no more. The run is that of 'dr2e restore', one actor per stage. On a machine of few cores leave a
    core for the other stages: with 2 cores, one thread.

    Start-up ends when Restore begins its first unit. "From a quarter on" goes from the commit of about the first
    quarter of the units to the last one's, "as a whole" from the start of the graph.
    """
    found = measure(units, photos, rounds, threads, assignments)
    if as_json:
        way = {"machine": cpu(), "load": load(), "threads": threads, "set": assignments}
        click.echo(json.dumps({**way, **asdict(found)}, indent=1))
    else:
        click.echo(f"{cpu()}, {threads} torch threads per stage; load of the machine {load()}\n")
        click.echo(table(found))


def measure(units: int, photos: int, rounds: int, threads: int, assignments: Sequence[str]) -> Efficiency:
    """All ways in turns, `rounds` times."""
    rates: defaultdict[str, list[float]] = defaultdict(list)
    seen = room = faces = 0
    with tempfile.TemporaryDirectory(prefix="dr2e-bench-") as folder:
        source = write_units(Path(folder) / "in", photographs(), units, photos, PARTS)
        for number in range(rounds):
            config = config_of(source, Path(folder) / f"out-{number}", photos, threads, assignments)
            (alone,) = ordered_in_processes(partial(_alone_like_a_worker, nice=_niceness()), [config], 1, 1)
            faces = alone.faces
            for way, seconds in alone.seconds.items():
                rates[way].append(faces / seconds)
            with session():
                course = timed_run(config, RESTORED)
            rates[RUN].append(course.pace * faces / units)
            rates[STEADY].append(course.steady * faces / units)
            rates[WHOLE].append(faces / course.commits[-1])
            seen, room = seen + course.seen, room + course.room
    ways = tuple(Way(way, statistics.median(found), tuple(found)) for way, found in rates.items())
    return efficiency(faces, units, ways, seen / room)


def efficiency(faces: int, units: int, ways: tuple[Way, ...], fill: float) -> Efficiency:
    """What follows from the ways. Of a stage that was run in several, its best counts."""
    best: dict[str, float] = {}
    for way in ways:
        if way.way not in (BESIDE, RUN, STEADY, WHOLE):
            stage = way.way.partition(",")[0]
            best[stage] = max(best.get(stage, 0.0), way.faces_per_second)
    slowest = min(best, key=lambda stage: best[stage])
    ran = {way.way: way.faces_per_second for way in ways}
    run, whole = ran[RUN], ran[WHOLE]
    return Efficiency(faces, units, ways, slowest, run / best[slowest], run / ran[BESIDE], whole / best[slowest], fill)


@dataclass(frozen=True)
class Alone:
    """seconds: that each way took for all units. faces: of all."""

    seconds: dict[str, float]
    faces: int


def _alone_like_a_worker(config: Config, nice: int) -> Alone:
    """`alone`, as considerate of other processes as Ray's workers are: else a busy machine would favour it."""
    os.nice(nice)
    return alone(config)


def alone(config: Config) -> Alone:
    """Every stage of a run of `config` in a plain loop over all its units, after the first unit for practice. What is
    committed goes to the output's name with "-alone"."""
    run = Run(config.model_copy(update={"output": f"{config.output}-alone"}), describe(config))
    tasks = make_plan(resolve_inputs(config.input), ()).pending
    widths = widths_of(config)
    seconds: dict[str, float] = {}

    began = time.perf_counter()
    blocks = [block for task in tasks for block in read_shard(task, config.unit, {})]
    seconds["read"] = time.perf_counter() - began

    for kind, pool in RESTORED.stages:
        stage = kind(config, run.models.face_size, widths.device, getattr(widths, pool).threads)
        stage(blocks[0])
        if stage.units(config) > 1:
            with ThreadPoolExecutor(stage.units(config)) as threads:
                together, _ = _timed(partial(threads.map, stage), blocks)
                with _busy_beside(config, blocks[0]):
                    seconds[BESIDE], _ = _timed(partial(threads.map, stage), blocks)
            seconds[f"{kind.name}, {stage.units(config)} units at once"] = together
        spent, done = _timed(partial(map, stage), blocks)
        seconds[kind.name if stage.units(config) == 1 else f"{kind.name}, unit by unit"] = spent
        blocks = done
    faces = sum(len(photo.faces) for block in blocks for photo in from_block(block))
    seconds["commit"], _ = _timed(partial(map, Commit(run)), blocks)
    return Alone(seconds, faces)


@contextmanager
def _busy_beside(config: Config, block: pa.Table) -> Iterator[None]:
    """Another process that detects the faces of `block` again and again, as considerate as this one is."""
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    other = context.Process(target=_detect_for_ever, args=(config, block, begun), daemon=True)
    other.start()
    try:
        begun.wait()
        yield
    finally:
        other.kill()
        other.join()


def _detect_for_ever(config: Config, block: pa.Table, begun: Event) -> None:
    stage = Detect(config, describe(config).face_size, "cpu", widths_of(config).detect.threads)
    stage(block)
    begun.set()
    while True:
        stage(block)


def _timed(
    through: Callable[[Iterable[pa.Table]], Iterable[pa.Table]], blocks: list[pa.Table]
) -> tuple[float, list[pa.Table]]:
    began = time.perf_counter()
    done = list(through(blocks))
    return time.perf_counter() - began, done


def config_of(source: Path, output: Path, photos: int, threads: int, assignments: Sequence[str] = ()) -> Config:
    """One actor of each stage, with so many threads; assignments: as those of --set."""
    pools = {stage: {"workers": 1, "threads": threads} for stage in ("detect", "restore", "enhance")}
    base = {
        "input": str(source),
        "output": str(output),
        "unit": {"max_samples": photos},
        "resources": {"device": "cpu", **pools},
    }
    return load_config(None, assignments, base=base)


def widths_of(config: Config) -> Sizes:
    """The pools of a run on this machine."""
    return sizes(config.resources, [Node(float(os.cpu_count() or 1), 0.0)])


def photographs() -> list[tuple[str, bytes]]:
    """Portraits as they are and at every severity, one in seven with two faces, as JPEG."""
    made: list[tuple[str, bytes]] = []
    collins, hopper = eileen_collins(), grace_hopper()
    both = side_by_side(collins, hopper)
    for severity in DOWNSAMPLING:
        made += [_jpeg(degrade(photo, severity, 0).degraded) for photo in (collins, hopper)]
    return [*made, _jpeg(both.pixels)]


def _jpeg(pixels: np.ndarray) -> tuple[str, bytes]:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return "jpg", out.getvalue()


def _niceness() -> int:
    """Of a worker of the Ray that `session` starts."""
    return int(os.environ.get(NICE, "5"))


def table(found: Efficiency) -> str:
    """Markdown."""
    slowest = max(way.faces_per_second for way in found.ways if way.way.partition(",")[0] == found.slowest)
    lines = ["| | faces/s | to the slowest stage alone |", "| --- | --- | --- |"]
    lines += [
        f"| {way.way} | {way.faces_per_second:.3g} | {way.faces_per_second / slowest:.1%} |" for way in found.ways
    ]
    lines += [
        "",
        f"{found.faces} faces in {found.units} units. The slowest stage alone is {found.slowest}; the run reaches "
        f"{found.ratio:.1%} of it, with start-up {found.whole:.1%}, and {found.beside:.1%} of what Restore does when "
        f"another is always busy beside it. Batches of the engine were {found.fill:.1%} full.",
    ]
    return "\n".join(lines)
