"""Very many shards, and very many members: time and memory grow in proportion."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import pytest

from faults.zoo.tars import END, header
from pipeline.inputs import resolve_inputs
from pipeline.plan import make_plan
from pipeline.shards import index_shard
from pipeline.storage import Location
from pipeline.units import unit_id

SHARDS = 100_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for number in range(SHARDS):
        (folder / f"{number:06d}.tar").touch()
    return folder


@pytest.mark.parametrize("pattern", ["", "/{000000..099999}.tar", "/*.tar"])
def test_100_000_shards_are_listed_and_planned(pattern: str, folder: Path) -> None:
    """A few seconds and a few hundred MB; what is quadratic takes hours."""
    committed = [unit_id(f"{number:06d}.tar", 0, 1) for number in range(0, SHARDS, 2)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    shards = resolve_inputs(f"{folder}{pattern}")
    plan = make_plan(shards, committed)
    seconds = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # MB
    assert len(shards) == SHARDS
    assert len(plan.pending) == len(plan.done) == SHARDS // 2
    assert seconds < 30
    assert grown < 500


def test_a_listing_of_several_pages_on_s3_is_complete(s3: Any) -> None:
    place = Location(s3.folder(), s3.options)
    names = [f"{number:04d}.tar" for number in range(1100)]  # a page holds 1,000
    place._fs.pipe({f"{place.url}/{name}": b"x" for name in names})
    assert [shard.relative for shard in resolve_inputs(place.url, s3.options)] == names
    assert len(resolve_inputs(f"{place.url}/{{0000..1099}}.tar", s3.options)) == len(names)


def test_a_sample_of_50_000_members_takes_seconds(tmp_path: Path) -> None:
    """Looking each name up among all others would take minutes."""
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(header(f"a.{number:05d}.txt") for number in range(50_000)) + END)
    began = time.process_time()
    (sample,) = index_shard(path).samples
    assert len(sample.members) == 50_000
    assert time.process_time() - began < 20
