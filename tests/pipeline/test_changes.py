"""Shards that change after they were committed, and what a start knows of those that did not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from faults.zoo.by_stages import by_stages, commit, config
from faults.zoo.tars import TINY
from pipeline.changes import forget
from pipeline.commit import CommitError
from pipeline.config import ConfigError
from pipeline.driver import Prepared, _meet, prepare
from pipeline.known import read_known, state, write_known
from pipeline.ledger import KNOWN, CommitRecord, commit_name
from pipeline.output import Output
from pipeline.plan import ShardTask
from pipeline.source import read_shard
from pipeline.storage import Location, StorageError
from pipeline.tar import write_shard
from pipeline.units import ShardChanged, retry_id, unit_id

TWO_A_UNIT = "unit.max_samples=2"
NEWER = bytes(2000)
"""Of another size: of local shards, whose time a copy has not kept, the size alone tells."""


def write(path: Path, word: bytes, count: int = 3) -> None:
    """A shard of `count` photos, of another time than any before."""
    write_shard(path, [member for n in range(count) for member in ((f"{n}.png", TINY), (f"{n}.txt", word))])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two finished shards of two units each."""
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.tar", b"old")
    write(folder / "b.tar", b"old")
    prepared = start(folder, tmp_path)
    prepared.run.output.start(prepared.run.record(prepared.shards))
    assert len(by_stages(prepared.run.config).committed()) == 4
    return folder


def start(folder: Path, tmp_path: Path, *settings: str) -> Prepared:
    return prepare(config(folder, tmp_path / "out", TWO_A_UNIT, *settings))


def learn(prepared: Prepared) -> None:
    """What an execution does first."""
    write_known(prepared.run.output.location, prepared.now_known)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units whose records are read from here on."""
    units: list[str] = []
    record = Output.record

    def noting(self: Output, unit: str) -> CommitRecord:
        units.append(unit)
        return record(self, unit)

    monkeypatch.setattr(Output, "record", noting)
    return units


def test_a_changed_shard_is_refused_with_a_remedy(folder: Path, tmp_path: Path) -> None:
    write(folder / "b.tar", NEWER)
    write(folder / "a.tar", NEWER)
    with pytest.raises(ShardChanged, match=r"a\.tar \(and 1 other shards\) changed since it .* --set changed=redo"):
        start(folder, tmp_path)


def test_a_changed_shard_is_left_alone(folder: Path, tmp_path: Path) -> None:
    write(folder / "a.tar", NEWER)
    write(folder / "c.tar", b"old")
    prepared = start(folder, tmp_path, "changed=skip")
    assert [task.shard.relative for task in prepared.changed] == ["a.tar"]
    assert [task.shard.relative for task in prepared.plan.pending] == ["c.tar"]
    assert [shard.relative for shard in prepared.worked_on] == ["b.tar", "c.tar"]
    assert not prepared.plan.gone, "it is still in the input"


def test_a_changed_shard_is_done_anew_and_nothing_else_is(folder: Path, tmp_path: Path) -> None:
    output = Output(tmp_path / "out")
    before = {record.unit: record for record in output.records()}
    write(folder / "a.tar", b"new and longer", count=5)
    prepared = start(folder, tmp_path, "changed=redo")
    assert [task.shard.relative for task in prepared.plan.pending] == ["a.tar"]
    assert output.committed() == before.keys(), "a plan changes nothing"
    learn(prepared)
    forget(output, prepared.changed)
    by_stages(prepared.run.config)

    after = {record.unit: record for record in output.records()}
    assert after.keys() == {unit_id("a.tar", n, 3) for n in range(3)} | {unit_id("b.tar", n, 2) for n in range(2)}
    assert all(after[unit] == before[unit] for unit in after if unit.startswith("b"))
    assert output.status().counts["photos"] == 5 + 3
    assert output.verify() == []
    orphans = {garbage.unit for garbage in output.orphans()}
    assert orphans == {unit for unit in before if unit.startswith("a")}, "its old results are garbage"
    assert start(folder, tmp_path).plan.complete


def test_a_record_of_the_shard_as_it_is_now_stays(folder: Path, tmp_path: Path) -> None:
    """Two runs meet the same change: what the first did anew the second does not forget."""
    write(folder / "a.tar", NEWER)
    late, early = (start(folder, tmp_path, "changed=redo") for _ in range(2))
    forget(early.run.output, early.changed)
    by_stages(early.run.config)
    done = {record.unit: record.attempt for record in early.run.output.records()}
    forget(late.run.output, late.changed)
    assert {record.unit: record.attempt for record in early.run.output.records()} == done


def test_a_run_that_was_killed_while_it_forgot_goes_on(folder: Path, tmp_path: Path) -> None:
    write(folder / "a.tar", NEWER)
    (tmp_path / "out" / "commits" / f"{unit_id('a.tar', 0, 2)}.json").unlink()
    prepared = start(folder, tmp_path, "changed=redo")
    assert [task.shard.relative for task in prepared.changed] == ["a.tar"]
    forget(prepared.run.output, prepared.changed)
    assert len(prepared.run.output.committed()) == 2


def test_only_new_results_are_compared_with_their_shards(folder: Path, tmp_path: Path, asked: list[str]) -> None:
    learn(start(folder, tmp_path))
    assert len(asked) == 4, "every unit, once"
    asked.clear()
    write(folder / "c.tar", b"old")
    prepared = start(folder, tmp_path)
    assert not asked, "both are known"
    by_stages(prepared.run.config)
    write(folder / "d.tar", b"old")
    learn(start(folder, tmp_path))
    assert asked == [unit_id("c.tar", 0, 2), unit_id("c.tar", 1, 2)]
    start(folder, tmp_path)
    assert len(asked) == 2


def test_what_is_known_hides_no_change(folder: Path, tmp_path: Path) -> None:
    learn(start(folder, tmp_path))
    write(folder / "b.tar", NEWER)
    with pytest.raises(ShardChanged, match=r"b\.tar changed"):
        start(folder, tmp_path)
    prepared = start(folder, tmp_path, "changed=skip")
    assert {relative for relative, _, _ in prepared.now_known} == {"a.tar"}


def test_a_shard_that_changes_back_is_noticed(folder: Path, tmp_path: Path) -> None:
    """Done anew meanwhile: what is committed is of the version between."""
    first = (folder / "a.tar").read_bytes(), (folder / "a.tar").stat().st_mtime_ns
    learn(start(folder, tmp_path))
    write(folder / "a.tar", NEWER)
    prepared = start(folder, tmp_path, "changed=redo")
    _meet(prepared)
    by_stages(prepared.run.config)
    (folder / "a.tar").write_bytes(first[0])
    os.utime(folder / "a.tar", ns=(first[1], first[1]))
    with pytest.raises(ShardChanged, match=r"a\.tar changed since it was committed"):
        start(folder, tmp_path)


def test_what_was_known_goes_before_any_record_does(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start whose own knowledge the storage refuses, or that dies between, leaves none of before."""
    learn(start(folder, tmp_path))
    write(folder / "a.tar", NEWER)
    prepared = start(folder, tmp_path, "changed=redo")

    def dies(*_: object) -> None:
        raise StorageError("it died here")

    monkeypatch.setattr("pipeline.driver.forget", dies)
    with pytest.raises(StorageError):
        _meet(prepared)
    assert read_known(Location(tmp_path / "out")) == frozenset()
    assert len(prepared.run.output.committed()) == 4


def test_a_straggler_of_the_old_version_is_found_and_mended(folder: Path, tmp_path: Path) -> None:
    """It commits a part of the old version after a run that does the shard anew has begun with the other."""
    output = Output(tmp_path / "out")
    straggler = commit_name(unit_id("a.tar", 1, 2))
    late = output.location.read(straggler)
    write(folder / "a.tar", NEWER)
    prepared = start(folder, tmp_path, "changed=redo")
    forget(output, prepared.changed)
    output.location.put(straggler, late)
    first, second = read_shard(ShardTask(prepared.shards[0]), prepared.run.config.unit, {})
    commit(output, first)
    with pytest.raises(CommitError, match=r"from another version of a\.tar"):
        commit(output, second)
    with pytest.raises(ShardChanged, match=r"a\.tar changed"):
        start(folder, tmp_path)
    again = start(folder, tmp_path, "changed=redo")
    forget(output, again.changed)
    by_stages(again.run.config)
    assert {record.shard_bytes for record in output.records() if record.shard == "a.tar"} == {again.shards[0].size}
    assert start(folder, tmp_path).plan.complete


def test_later_attempts_at_photos_of_a_changed_shard_go_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(tmp_path / "out")
    unit = unit_id("a.tar", 0, 2)
    output.location.put(commit_name(retry_id(unit, 1)), output.location.read(commit_name(unit)))
    write(folder / "a.tar", NEWER)
    gone: list[str] = []
    monkeypatch.setattr(Location, "delete", lambda _, name: gone.append(name))
    forget(output, start(folder, tmp_path, "changed=redo").changed)
    assert gone[0] == commit_name(retry_id(unit, 1))
    assert set(gone[1:]) == {commit_name(unit), commit_name(unit_id("a.tar", 1, 2))}


def test_what_has_no_commits_is_not_known(folder: Path, tmp_path: Path) -> None:
    learn(start(folder, tmp_path))
    for path in (tmp_path / "out" / "commits").glob("a-*"):
        path.unlink()
    learn(start(folder, tmp_path))
    assert {relative for relative, _, _ in read_known(Location(tmp_path / "out"))} == {"b.tar"}


@pytest.mark.parametrize("content", [b"", b"PAR1 no Parquet"])
def test_broken_knowledge_costs_a_comparison(
    content: bytes, folder: Path, tmp_path: Path, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "c.tar", b"old")
    (tmp_path / "out" / KNOWN).write_bytes(content)
    with caplog.at_level(logging.WARNING):  # libraries that other tests import turn warnings off
        learn(start(folder, tmp_path))
    assert len(asked) == 4 and "compared again" in caplog.text
    assert len(read_known(Location(tmp_path / "out"))) == 2


def test_knowledge_is_kept_on_s3(s3, folder: Path) -> None:  # type: ignore[no-untyped-def]
    place = Location(s3.folder(), s3.options)
    states = {state(shard) for shard in start(folder, folder.parent).shards}
    write_known(place, states)
    assert read_known(place) == states
    write_known(place, [])
    assert read_known(place) == frozenset()


def test_pairs_without_near_duplicates_are_not_done_anew_in_part(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use refuse or skip"):
        config(tmp_path, tmp_path / "out", "changed=redo", "pairs.gate.duplicates=5")
