"""An output that somebody made up: every reader says what is wrong in one line, and reads nothing outside of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from faults.zoo.by_stages import by_stages, config
from faults.zoo.tars import TINY
from jobs import cli
from pipeline.ledger import LedgerError
from pipeline.storage import StorageError
from pipeline.tar import write_shard

READERS = (["status"], ["unpack"], ["report"], ["verify"], ["retry", "--dry-run"], ["gc"])
NAMED = (LedgerError, StorageError)

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of one unit with a photo that has no face and one whose name climbs."""
    folder = tmp_path_factory.mktemp("crafted")
    (folder / "in").mkdir()
    write_shard(folder / "in" / "s.tar", [("a.png", TINY), ("../b.png", TINY)])
    by_stages(config(folder / "in", folder / "out"))
    (folder / "out" / "run.json").write_text("{}")
    return folder / "out"


def read(output: Path, tmp_path: Path) -> list[str]:
    """What each reader ends with, when it ends badly."""
    told = []
    for number, (name, *options) in enumerate(READERS):
        arguments = [name, str(output), *options]
        if name == "unpack":
            arguments.append(str(tmp_path / f"files{number}"))
        result = CliRunner().invoke(cli.command, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, NAMED), f"{name}: {result.exception!r}"
            told.append(str(result.exception))
    assert all("\n" not in line for line in told)
    return told


def climb(record: dict[str, Any]) -> None:
    for item in record["objects"]:
        item["name"] = item["name"].replace("/", "/../../", 1)


CHANGES: dict[str, Change] = {
    "names that climb": climb,
    "names that are numbers": lambda record: [item.update(name=5) for item in record["objects"]],
    "counts that are text": lambda record: record.update(counts="x"),
    "counts that are missing": lambda record: record.update(counts={}),
    "seconds that are text": lambda record: record.update(seconds={"read": "x"}),
    "a list of replaced": lambda record: record.update(replaced=["x"]),
    "no parts": lambda record: record.update(parts=0),
    "a time that is none": lambda record: record.update(started="yesterday"),
    "a number too large": lambda record: record["counts"].update(photos=10**30),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_record_with_impossible_values_is_named(change: Change, output: Path, tmp_path: Path) -> None:
    (record,) = (output / "commits").iterdir()
    good = record.read_bytes()
    try:
        fields = json.loads(good)
        change(fields)
        record.write_text(json.dumps(fields))
        told = read(output, tmp_path)
    finally:
        record.write_bytes(good)
    assert told and all(record.name in line or "not a name below" in line for line in told)


@pytest.mark.parametrize("name", ["run.json", "commits"])
def test_json_that_is_nested_without_end_is_named(name: str, output: Path, tmp_path: Path) -> None:
    target = output / name if name == "run.json" else next((output / name).iterdir())
    good = target.read_bytes()
    try:
        target.write_text("[" * 200_000)
        told = read(output, tmp_path)
    finally:
        target.write_bytes(good)
    assert told and all(target.name in line for line in told)


@pytest.mark.parametrize("data", [b"", b"PAR1 and nothing"])
def test_a_manifest_that_is_none_is_named(data: bytes, output: Path, tmp_path: Path) -> None:
    (target,) = (output / "manifest").iterdir()
    good = target.read_bytes()
    try:
        target.write_bytes(data)
        told = read(output, tmp_path)
    finally:
        target.write_bytes(good)
    assert told and all(target.name in line and "dr2e verify" in line for line in told)
    assert not read(output, tmp_path)
