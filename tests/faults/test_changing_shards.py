"""A shard that changes between the listing and the end of its reading is noticed, and never mixes old and new."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.source
from faults.zoo.by_stages import commit, config
from faults.zoo.tars import TINY
from pipeline.blocks import Failure, failure_of, from_block
from pipeline.driver import prepare
from pipeline.inputs import resolve_inputs
from pipeline.output import Output
from pipeline.plan import ShardTask
from pipeline.source import read_shard
from pipeline.storage import Location
from pipeline.tar import write_shard
from pipeline.units import ShardChanged

KEYS = "abcdef"
SETTINGS = config("in", "out", "unit.max_samples=2")

Change = Callable[[Path], object]


def content(word: bytes, keys: str = KEYS) -> list[tuple[str, bytes]]:
    """Samples whose sidecar says which version of the shard they are of."""
    return [member for key in keys for member in ((f"{key}.png", TINY), (f"{key}.txt", word))]


def shrink(path: Path) -> None:
    os.truncate(path, 2048)


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(bytes(10240))


def overwrite(path: Path) -> None:
    """Other content of the same size, into the same file."""
    path.write_bytes(path.read_bytes().replace(b"old", b"new"))


def replace(path: Path) -> None:
    """Another file of the same size under the name."""
    write_shard(path, content(b"new"))


CHANGES = {"shrinks": shrink, "grows": grow, "is overwritten": overwrite, "is replaced": replace, "goes": Path.unlink}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    write_shard(folder / "s.tar", content(b"old"))
    os.utime(folder / "s.tar", (1_700_000_000, 1_700_000_000))  # a clock tick would hide a change at once
    return folder / "s.tar"


def words(block: Any) -> set[bytes]:
    return {data for photo in from_block(block) for _, data in photo.sidecars}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("moment", ["before it is read", "behind its index", "between two units"])
def test_on_a_disk(change: Change, moment: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = resolve_inputs(str(path))
    index_shard = pipeline.source.index_shard

    def index_then_change(file: Path) -> Any:
        index = index_shard(file)
        change(path)
        return index

    if moment == "before it is read":
        change(path)
    if moment == "behind its index":
        monkeypatch.setattr(pipeline.source, "index_shard", index_then_change)
    blocks = read_shard(ShardTask(shard), SETTINGS.unit, {})
    if moment == "between two units":
        assert words(next(blocks)) == {b"old"}
        change(path)
    (last,) = blocks
    failure = failure_of(last) or Failure("", "")
    unit, reason = failure.unit, failure.reason
    assert unit == "s.tar"
    assert reason.startswith(str(path)) and "run again" in reason


def test_what_does_not_change_is_read_to_its_end(path: Path) -> None:
    (shard,) = resolve_inputs(str(path))
    blocks = list(read_shard(ShardTask(shard), SETTINGS.unit, {}))
    assert [words(block) for block in blocks] == [{b"old"}] * 3


def test_a_half_done_shard_that_changed_is_refused_before_the_next_run(path: Path, tmp_path: Path) -> None:
    settings = config(path.parent, tmp_path / "out", "unit.max_samples=2")
    (shard,) = resolve_inputs(str(path))
    commit(Output(settings.output), next(read_shard(ShardTask(shard), settings.unit, {})))
    assert len(prepare(settings).plan.pending) == 1
    grow(path)
    with pytest.raises(ShardChanged, match=r"s\.tar changed since part of it was committed; use a new output"):
        prepare(settings)


def test_a_shard_that_changed_after_it_was_done_is_not_passed_over(path: Path, tmp_path: Path) -> None:
    settings = config(path.parent, tmp_path / "out", "unit.max_samples=2")
    prepared = prepare(settings)
    prepared.run.output.start(prepared.run.record(prepared.shards))
    for block in read_shard(ShardTask(prepared.shards[0]), settings.unit, {}):
        commit(Output(settings.output), block)
    assert prepare(settings).plan.complete
    grow(path)
    with pytest.raises(ShardChanged, match=r"s\.tar changed since it was committed; use a new output"):
        prepare(settings)


@pytest.mark.parametrize("moment", ["before", "while", "behind"])
def test_on_s3(moment: str, s3: Any, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old content, or new, or half of either may arrive; a change of the ETag refuses it, whatever it was."""
    place = Location(s3.folder(), s3.options)
    place.put("s.tar", path)
    (shard,) = resolve_inputs(place.url, s3.options)
    fetch = Location.fetch

    def change(name: str) -> None:
        replace(path)
        place.put(name, path)

    def fetch_and_change(self: Location, name: str, to: Path) -> None:
        if moment == "before":
            change(name)
        fetch(self, name, to)
        if moment == "while":
            to.write_bytes(to.read_bytes()[:5000] + path.read_bytes()[5000:])
            change(name)

    monkeypatch.setattr(Location, "fetch", fetch_and_change)
    blocks = read_shard(ShardTask(shard), SETTINGS.unit, s3.options)
    if moment != "behind":
        (block,) = blocks
        assert "s.tar changed during the run" in (failure_of(block) or Failure("", "")).reason
        return
    first = next(blocks)
    change("s.tar")  # the copy stays what it was
    assert [words(block) for block in (first, *blocks)] == [{b"old"}] * 3
