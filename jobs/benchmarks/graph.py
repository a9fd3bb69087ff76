"""Runs to measure the graph by: a made-up collection, a run over it on Ray, and how it went."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import Config, build
from pipeline.inputs import resolve_inputs
from pipeline.ledger import COMMITS
from pipeline.models import describe
from pipeline.product import Product
from pipeline.progress import Tally
from pipeline.records import Photo
from pipeline.rounds import run_rounds
from pipeline.run import Run
from pipeline.simulation.stages import Naps, simulated
from pipeline.stages import Stage
from pipeline.tar import write_shard
from pipeline.work import Shards

PHOTOS, PARTS = 4, 4
"""Photos of a simulated unit, units of a shard."""


@dataclass(frozen=True)
class Actors:
    """How many simulated actors of each stage; commit_cpus: CPUs that Ray reserves for a commit."""

    detect: int = 1
    restore: int = 1
    enhance: int = 1
    commit_cpus: float = 0.5


def cpus_for(workers: int) -> int:
    """CPUs for Ray to count on, so that so many actors leave enough to read and commit."""
    return workers + 4


def run_simulated(folder: Path, actors: Actors, naps: Naps, units: int) -> Course:
    """Run `units` units through stages that sleep. The output is left at `folder`/out."""
    image = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image, "PNG")
    source = write_units(folder / "in", [("png", image.getvalue())], units, PHOTOS, PARTS)
    return timed_run(simulated_config(source, folder / "out", actors), simulated(naps))


def simulated_config(source: Path, output: Path, actors: Actors) -> Config:
    """A run with these actors."""
    return build(
        {
            "input": str(source),
            "output": str(output),
            "unit": {"max_samples": PHOTOS},
            "resources": {
                "device": "cpu",
                "detect": {"workers": actors.detect, "cpus": 0.1},
                "restore": {"workers": actors.restore, "cpus": 0.6},
                "enhance": {"workers": actors.enhance, "cpus": 0.1},
                "commit_cpus": actors.commit_cpus,
            },
        }
    )


def write_units(folder: Path, photos: Sequence[tuple[str, bytes]], units: int, size: int, parts: int) -> Path:
    """Shards of `units` units in all, of `size` photos each, `parts` of them in a shard; the photos in turns.

    photos: extension and bytes.
    """
    folder.mkdir(parents=True)
    for first in range(0, units, parts):
        places = range(first * size, min(first + parts, units) * size)
        kinds = [photos[place % len(photos)] for place in places]
        members = [(f"{place:06d}.{kind}", data) for place, (kind, data) in zip(places, kinds, strict=True)]
        write_shard(folder / f"{first // parts:06d}.tar", members)
    return folder


@dataclass(frozen=True)
class Course:
    """How a run went, seconds after the start of its graph.

    served: by Restore actor, when it began and ended each of its units, which it does in turns. commits: of all units,
    rising. seen, room: faces that the engines' batches held, and how many had room; 0 where there is no engine.
    """

    served: Sequence[Sequence[tuple[float, float]]]
    commits: Sequence[float]
    seen: int = 0
    room: int = 0

    @property
    def started(self) -> float:
        """When the last of the Restore actors that got a unit began its first: until then the run starts up."""
        return max(units[0][0] for units in self.served)

    @property
    def pace(self) -> float:
        """Units per second from `started` to the last commit. Of what an actor was at when that began, the part counts
        that came after."""
        units = (unit for served in self.served for unit in served)
        done = sum((end - max(begin, self.started)) / (end - begin) for begin, end in units if end > self.started)
        return done / (self.commits[-1] - self.started)

    @property
    def steady(self) -> float:
        """Units per second from about a quarter of the commits on, to the last. As many units as there are actors may
        be committed at once, so a multiple of them is left out. Raises ValueError when there are too few."""
        at_once = len(self.served)
        skipped = at_once * max(1, round(len(self.commits) / 4 / at_once))
        if len(self.commits) <= skipped:
            raise ValueError(f"{len(self.commits)} units say nothing about a steady state; take more")
        return (len(self.commits) - skipped) / (self.commits[-1] - self.commits[skipped - 1])


def timed_run(config: Config, product: Product) -> Course:
    """Run `config`, whose output is a local folder; a Ray that is connected to already is used.

    Raises what `run_rounds` raises.
    """
    stages = tuple((_noting(stage) if pool == "restore" else stage, pool) for stage, pool in product.stages)
    run = Run(config, describe(config), product=replace(product, stages=stages))
    shards = resolve_inputs(config.input, config.storage.input)
    run.output.start(run.record(shards))
    notes = _notes(config)
    notes.mkdir()
    began = time.time()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        run_rounds(run, Shards(run, shards), None, nowhere, Tally())
    commits = sorted(path.stat().st_mtime - began for path in Path(config.output, COMMITS).glob("*.json"))
    served: list[list[tuple[float, float]]] = []
    seen = room = 0
    for file in notes.iterdir():
        rows = sorted((json.loads(line) for line in file.read_text().splitlines()), key=lambda row: row[1])
        served.append(_in_turns([(begin - began, end - began) for begin, end, _, _ in rows]))
        seen, room = seen + rows[-1][2], room + rows[-1][3]
    return Course(served, commits, seen, room)


def _in_turns(units: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Work on each unit began when the one before was done, whatever waited beside it."""
    ends = [units[0][0], *(end for _, end in units)]
    return [(max(begin, before), end) for (begin, end), before in zip(units, ends, strict=False)]


class _Notes(Stage):
    """Notes of each unit when it came and went, and how many faces the engine's batches held so far, of how many."""

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        super().__init__(config, face_size, device, threads)  # type: ignore[call-arg]
        self._file = _notes(config) / str(os.getpid())

    def process(self, photos: Sequence[Photo]) -> None:
        began = time.time()
        super().process(photos)
        engine = getattr(getattr(self, "remover", None), "engine", None)
        counts = [0, 0] if engine is None else [engine.evaluations, engine.rows]
        with self._file.open("a") as file:
            file.write(json.dumps([began, time.time(), *counts]) + "\n")


def _noting(stage: type[Stage]) -> type[Stage]:
    """`stage`, which keeps notes: a class of its own, which Ray carries to its workers as it is."""
    return type(stage.__name__, (_Notes, stage), {"__module__": stage.__module__})


def _notes(config: Config) -> Path:
    return Path(f"{config.output}-notes")
