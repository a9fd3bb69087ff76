"""``dr2e bench verify``: how near the verification of an output comes to the speed of the storage."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from jobs.benchmarks.host import cpu
from jobs.benchmarks.outputs import make_output
from jobs.options import as_json, parse_storage, storage_options
from pipeline.config import ConfigError
from pipeline.ledger import commit_name
from pipeline.output import Output
from pipeline.parallel import ordered
from pipeline.processes import processors, spread
from pipeline.storage import Location
from pipeline.verification import READERS, Journal, verify
from pipeline.verification.stream import BLOCK


@dataclass(frozen=True)
class Timing:
    """way: what was done. seconds: of the fastest round; bytes: of all objects; ratio: its speed to reading alone."""

    way: str
    seconds: float
    bytes: int
    ratio: float

    @property
    def rate(self) -> float:
        """MB/s."""
        return self.bytes / 1e6 / self.seconds


@click.command("verify")
@click.option("--units", default=1000, show_default=True, help="Units of the output.")
@click.option("--photos", default=8, show_default=True, help="Photos of a unit.")
@click.option("--photo-kb", default=500, show_default=True, help="Size of most photos, in kB.")
@click.option(
    "--output", metavar="URL", help="Empty folder or prefix to build it at, and leave it; else a temporary one."
)
@click.option("--rounds", default=3, show_default=True, help="Times each way is run, in turns; the fastest counts.")
@click.option("--processes", type=click.IntRange(min=1), help="Processes that read; else as many as verify takes.")
@click.option("--cold", is_flag=True, help="Drop the files from the page cache before each way (local folders).")
@storage_options
@as_json
def command(
    units: int,
    photos: int,
    photo_kb: int,
    output: str | None,
    rounds: int,
    processes: int | None,
    cold: bool,
    storage_options: str | None,
    as_json: bool,
) -> None:
    """MB/s of 'dr2e verify', beside reading all objects without looking at them and beside hashing alone.

    An output of made-up photos is committed as a run commits them, and then read: as verify reads it but without
    hashing or checking; by verify; and by verify again with the journal of the first time. Hashing alone is of as
    many bytes that are in memory already. Both readings with the same processes and threads, one after the other.
    """
    with _place(output, parse_storage(storage_options)) as location:
        if location.entries():
            raise ConfigError(f"{location.url} is not empty; name another --output")
        if cold and not location.is_local:
            raise ConfigError("--cold is for local folders: what a server keeps in memory is its own affair")
        make_output(location, units, photos, photo_kb * 1000)
        processes = processes or processors()
        timings = measure(location, rounds, processes, cold)
    if as_json:
        ways = [asdict(timing) for timing in timings]
        click.echo(json.dumps({"machine": cpu(), "processes": processes, "timings": ways}, indent=1))
    else:
        where = "local disk" if location.is_local else location.url.partition("://")[0]
        where += f"{', cold' if cold else ''}; {processes} processes"
        click.echo(f"{cpu()}; {units:,} units on {where}\n\n{table(timings)}")


def measure(location: Location, rounds: int, processes: int, cold: bool = False) -> list[Timing]:
    """Time the ways in turns, several rounds of them, for a machine may be busy with other things.

    processes: that read, their start included. cold: read from the disk, not from memory.
    """
    objects: list[tuple[str, int]] = []
    for record in Output(location).records():
        objects.append((commit_name(record.unit), 0))
        objects += [(stored.name, stored.bytes) for stored in record.objects]
    size = sum(count for _, count in objects)
    with tempfile.TemporaryDirectory(prefix="dr2e-bench-") as folder:
        journal = Path(folder) / "journal"

        def verified() -> None:
            with Journal(journal, location.url) as notes:
                if findings := verify(location, journal=notes, processes=processes).findings:
                    raise RuntimeError(f"the output just built does not verify: {findings[0].message}")

        ways: dict[str, Callable[[], object]] = {
            "read": lambda: _drain(spread(_Reader(location), objects, processes, READERS)),
            "sha256 in memory": lambda: _hash(size),
            "verify": verified,
            "verify again, with its journal": verified,
        }
        fastest = dict.fromkeys(ways, math.inf)
        for _ in range(rounds):
            journal.unlink(missing_ok=True)
            for way, work in ways.items():
                fastest[way] = min(fastest[way], _timed(work, location if cold else None))
    reading = fastest["read"]
    return [Timing(way, seconds, size, reading / seconds) for way, seconds in fastest.items()]


def table(timings: Sequence[Timing]) -> str:
    """Markdown; ratios are to reading."""
    lines = ["| way | seconds | MB/s | to reading |", "| --- | --- | --- | --- |"]
    lines += [f"| {one.way} | {one.seconds:.2f} | {one.rate:,.0f} | {one.ratio:.2f} |" for one in timings]
    return "\n".join(lines)


@contextmanager
def _place(output: str | None, options: dict[str, object]) -> Iterator[Location]:
    if output:
        yield Location(output, options)
        return
    with tempfile.TemporaryDirectory(prefix="dr2e-bench-") as folder:
        yield Location(folder)


@dataclass(frozen=True)
class _Reader:
    """Reads an object in requests as large as those of verify, one whose size is not known in one, and forgets it."""

    location: Location

    def __call__(self, stored: tuple[str, int]) -> int:
        name, size = stored
        if not size:
            return len(self.location.read(name))
        return sum(len(self.location.read_range(name, at, min(at + BLOCK, size))) for at in range(0, size, BLOCK))


def _hash(size: int) -> None:
    """sha256 of `size` bytes, by as many threads as verify has."""
    block = os.urandom(BLOCK)

    def share(_: int) -> None:
        digest = hashlib.sha256()
        for _ in range(max(size // BLOCK // READERS, 1)):
            digest.update(block)

    _drain(ordered(share, range(READERS), READERS))


def _timed(work: Callable[[], object], cold: Location | None) -> float:
    """Seconds. cold: the local folder that is to be read from the disk."""
    if cold is not None:
        for entry in cold.entries():
            _forget(f"{cold.url}/{entry.name}")
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _forget(path: str) -> None:
    """Have the kernel drop a file from its page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _drain(results: Iterable[object]) -> None:
    for _ in results:
        pass
