"""``dr2e bench memory``: what a run holds in memory, over few shards and over many."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image

from jobs.benchmarks.faces import mixed_faces
from jobs.benchmarks.host import cpu
from jobs.options import as_json
from pipeline.config import ConfigError
from pipeline.tar import write_shard

_LOOK_SECONDS = 0.25
_ROLES = (
    ("MapWorker(MapBatches(Detect", "Detect"),
    ("MapWorker(MapBatches(Restore", "Restore"),
    ("MapWorker(MapBatches(Enhance", "Enhance"),
    ("raylet/raylet", "raylet"),
    ("gcs_server", "gcs_server"),
)
_TASK = re.compile(r"ray::(?!MapWorker)")


@dataclass(frozen=True)
class Peak:
    """A kind of process at its largest, in MB of 1e6 bytes: the largest of its processes, without the object store."""

    role: str
    few: float
    many: float

    @property
    def growth(self) -> float:
        return self.many / self.few - 1


@click.command("memory")
@click.option("--shards", default=20, show_default=True, help="Shards of the small run; each is one unit.")
@click.option("--times", default=10, show_default=True, help="How many times as many the large run has.")
@click.option("--photos", default=4, show_default=True, help="Photos of a shard; one of them has a face.")
@click.option(
    "--at-once",
    type=int,
    help="resources.shards_at_once of both runs; so few that also the small one has "
    "several executions of the graph, whose workers overlap.",
)
@as_json
def command(shards: int, times: int, photos: int, at_once: int | None, as_json: bool) -> None:
    """Peak resident memory of the driver and of each kind of worker, at some shards and at 10 times as many.

    Two runs of 'dr2e restore', each with a Ray of its own, on made-up shards that are all alike. "tasks" is the largest
    process that read or committed. "object store" is what Ray keeps units in between stages: shared by all, and not
    counted with them. "together" is the most that all processes and the store held at a time.
    """
    with tempfile.TemporaryDirectory(prefix="dr2e-memory-") as folder:
        small, large = (measure(Path(folder), count, photos, at_once) for count in (shards, shards * times))
    peaks = [Peak(role, small[role], large[role]) for role in small if role in large]
    if as_json:
        click.echo(json.dumps({"machine": cpu(), "peaks": [asdict(peak) for peak in peaks]}, indent=1))
        return
    click.echo(f"{cpu()}\n{'process':12} {shards:>6} shards {shards * times:>6} shards   growth")
    for peak in peaks:
        click.echo(f"{peak.role:12} {peak.few:10,.0f} MB {peak.many:10,.0f} MB {peak.growth:+8.1%}")


def measure(folder: Path, count: int, photos: int, at_once: int | None = None) -> dict[str, float]:
    """Peak MB by role of a run over `count` shards. Raises ConfigError when the run fails."""
    source, output, log = folder / f"in-{count}", folder / f"out-{count}", folder / f"log-{count}"
    source.mkdir()
    members = _members(photos)
    for number in range(count):
        write_shard(source / f"{number:06d}.tar", members)
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "restore", "--n", "1", "--tau", "20"]
    command += ["--input", str(source), "--output", str(output)]
    if at_once is not None:
        command += [f"--set=resources.shards_at_once={at_once}"]
    with log.open("wb") as words:
        run = subprocess.Popen(command, stdout=words, stderr=words)
        peaks = watch(run)
    if run.returncode != 0:
        raise ConfigError(f"the run over {count} shards failed: {log.read_text()[-500:]}")
    return peaks


def watch(run: subprocess.Popen[bytes]) -> dict[str, float]:
    """Peak MB of a process and what it starts, by role, until it ends."""
    peaks: defaultdict[str, float] = defaultdict(float)
    while run.poll() is None:
        together = store = 0.0
        for pid in _descendants(run.pid):
            with suppress(OSError):  # it has just ended
                title = (
                    (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                )
                status = (Path("/proc") / str(pid) / "status").read_text()
                role = "driver" if pid == run.pid else _role(title)
                own = (_kilobytes(status, "RssAnon") + _kilobytes(status, "RssFile")) / 1e3
                store = max(store, _kilobytes(status, "RssShmem") / 1e3)
                peaks[role] = max(peaks[role], own)
                together += own
        peaks["object store"] = max(peaks["object store"], store)
        peaks["together"] = max(peaks["together"], together + store)
        time.sleep(_LOOK_SECONDS)
    order = ["driver", "Detect", "Restore", "Enhance", "tasks", "raylet", "gcs_server", "object store", "together"]
    return {role: peaks[role] for role in order if role in peaks}


def _members(photos: int) -> list[tuple[str, bytes]]:
    face = Image.fromarray(mixed_faces(1, 128)[0])
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).resize((160, 120))
    members = []
    for number in range(photos):
        out = io.BytesIO()
        (face if number == 0 else noise).save(out, "JPEG")
        members.append((f"p{number}.jpg", out.getvalue()))
    return members


def _role(title: str) -> str:
    for mark, role in _ROLES:
        if mark in title:
            return role
    return "tasks" if _TASK.search(title) else "other"


def _descendants(root: int) -> Iterator[int]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                children[int((folder / "stat").read_text().rpartition(")")[2].split()[1])].append(int(folder.name))
    left = [root]
    while left:
        pid = left.pop()
        yield pid
        left += children[pid]


def _kilobytes(status: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 // 1000 if found else 0
