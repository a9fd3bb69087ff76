"""Runs to measure the graph by: a made-up collection, a run over it on Ray, and when its units were committed."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import Config, build
from pipeline.inputs import resolve_inputs
from pipeline.models import describe
from pipeline.output import Output
from pipeline.product import Product
from pipeline.progress import Tally
from pipeline.rounds import run_rounds
from pipeline.run import Run
from pipeline.simulation.stages import Naps, simulated
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


def run_simulated(folder: Path, actors: Actors, naps: Naps, units: int) -> list[float]:
    """Run `units` units through stages that sleep; seconds from the start of the graph to each commit.

    The output is left at `folder`/out.
    """
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


def timed_run(config: Config, product: Product) -> list[float]:
    """Seconds from the start of the graph to each commit, rising. A Ray that is connected to already is used.

    Raises what `run_rounds` raises.
    """
    run = Run(config, describe(config), product=product)
    shards = resolve_inputs(config.input, config.storage.input)
    run.output.start(run.record(shards))
    began = time.time()
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        run_rounds(run, Shards(run, shards), None, nowhere, Tally())
    return sorted(commit_times(config.output, began))


def commit_times(output: str, began: float) -> list[float]:
    """When the records of a local output were created, seconds after `began` (a time of day)."""
    location = Output(output).location
    return [path.stat().st_mtime - began for path in Path(location.url).joinpath("commits").glob("*.json")]


def steady(commits: Sequence[float], at_once: int) -> float:
    """Units per second when the run has found its pace: from the commit of about the first quarter on, to the last.

    at_once: units that are worked on at the same time, and so may be committed at the same time; a multiple of them is
    left out. Raises ValueError when there are too few.
    """
    skipped = at_once * max(1, round(len(commits) / 4 / at_once))
    if len(commits) <= skipped:
        raise ValueError(f"{len(commits)} units say nothing about a steady state of {at_once} at once; take more")
    return (len(commits) - skipped) / (commits[-1] - commits[skipped - 1])
