"""``dr2e bench nightly``: how long a run takes that finds nothing new, and how long it takes to find what is."""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image

from jobs.benchmarks.host import cpu
from jobs.options import as_json, parse_storage, storage_options
from pipeline.blocks import from_block
from pipeline.commit import commit_unit
from pipeline.config import Config, ConfigError, build
from pipeline.driver import Prepared, prepare
from pipeline.plan import ShardTask
from pipeline.source import read_shard
from pipeline.storage import Location
from pipeline.tar import write_shard

_SHARDS, _OUT = "shards", "out"


@dataclass(frozen=True)
class Night:
    """One command, timed from its start to its end. what: it met; seconds: median; slowest: of the repeats."""

    command: str
    what: str
    seconds: float
    slowest: float


@click.command("nightly")
@click.option("--shards", default=1000, show_default=True, help="Shards that are finished.")
@click.option("--new", default=10, show_default=True, help="Shards that come then.")
@click.option("--photos", default=8, show_default=True, help="Photos of a shard.")
@click.option("--repeats", default=3, show_default=True, help="Times each command is run.")
@click.option(
    "--at", "place", metavar="URL", help="Empty folder or prefix for shards and output; else a temporary folder."
)
@storage_options
@as_json
def command(
    shards: int, new: int, photos: int, repeats: int, place: str | None, storage_options: str | None, as_json: bool
) -> None:
    """Seconds of 'dr2e restore' over a prefix that did not grow, and of 'dr2e plan' over one that did.

    Shards of made-up photos without faces are committed as a run commits them, without Ray. Each command is then a
    process of its own, from its start to its end.
    """
    options = parse_storage(storage_options)
    with nullcontext(place) if place else tempfile.TemporaryDirectory(prefix="dr2e-nightly-") as folder:
        where = Location(folder, options)
        if where.entries():
            raise ConfigError(f"{where.url} is not empty; name another --at")
        nights = measure(where, shards, new, photos, repeats)
    if as_json:
        click.echo(json.dumps({"machine": cpu(), "nights": [asdict(night) for night in nights]}, indent=1))
        return
    kind = "local disk" if where.is_local else where.url.partition("://")[0]
    lines = [f"{cpu()}; {shards:,} shards on {kind}\n", "| command | what it meets | seconds | slowest |"]
    lines.append("| --- | --- | --- | --- |")
    lines += [f"| dr2e {n.command} | {n.what} | {n.seconds:.1f} | {n.slowest:.1f} |" for n in nights]
    click.echo("\n".join(lines))


def measure(where: Location, shards: int, new: int, photos: int, repeats: int) -> list[Night]:
    """Build the collection and its output, and time the commands. Raises ConfigError when one of them fails."""
    config = build(
        {
            "input": where.child(_SHARDS).url,
            "output": where.child(_OUT).url,
            "storage": {"input": where.options, "output": where.options},
        }
    )
    _write(where.child(_SHARDS), range(shards), photos)
    prepared = prepare(config)
    prepared.run.output.start(prepared.run.record(prepared.shards))
    _commit_all(prepared)
    _run("restore", config, where)  # writes the report of what it finds complete
    nights = [_night("restore", "nothing new", config, where, repeats)]
    _write(where.child(_SHARDS), range(shards, shards + new), photos)
    nights.append(_night("plan", f"{new:,} new shards", config, where, repeats))
    _commit_all(prepare(config))
    nights.append(_night("restore", f"nothing new, {new:,} shards more than at the first run", config, where, repeats))
    return nights


def _write(folder: Location, numbers: range, photos: int) -> None:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(noise).resize((160, 120)).save(out, "JPEG")
    members = [(f"p{number}.jpg", out.getvalue()) for number in range(photos)]
    with tempfile.TemporaryDirectory(prefix="dr2e-nightly-") as temporary:
        shard = Path(temporary) / "shard.tar"
        write_shard(shard, members)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: folder.put(f"{number:06d}.tar", shard), numbers))


def _commit_all(prepared: Prepared) -> None:
    run = prepared.run
    context = run.commit_context()

    def commit(task: ShardTask) -> None:
        for block in read_shard(task, run.config.unit, run.config.storage.input):
            found = from_block(block)
            for photo in found:
                photo.status = "no_face"
            commit_unit(run.output.location, found, context)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(commit, prepared.plan.pending))


def _night(command: str, what: str, config: Config, where: Location, repeats: int) -> Night:
    seconds = [_run(command, config, where) for _ in range(repeats)]
    return Night(command, what, statistics.median(seconds), max(seconds))


def _run(command: str, config: Config, where: Location) -> float:
    line = [sys.executable, "-c", "from jobs.cli import main; main()", command]
    line += ["--input", config.input[0], "--output", config.output]
    with tempfile.TemporaryDirectory(prefix="dr2e-nightly-") as folder:
        if where.options:  # in a file that is ours alone: what is on a command line everybody sees
            secret = Path(folder) / "storage.json"
            secret.touch(mode=0o600)
            secret.write_text(json.dumps(dict(where.options)))
            line += ["--storage-options", f"@{secret}"]
        began = time.perf_counter()
        done = subprocess.run(line, capture_output=True, text=True, env=dict(os.environ))
        seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise ConfigError(f"dr2e {command} failed: {done.stderr.strip()[-500:]}")
    return seconds
