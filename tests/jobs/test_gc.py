"""`dr2e gc` as a person and a program see it."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs import verify
from jobs.benchmarks.outputs import make_output
from jobs.gc import _Age, command
from pipeline.storage import Location

UNIT = "s-12345678-0000-of-0001"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output with three orphans of 1000 bytes, a day and more old, a young one, and somebody's notes."""
    output = tmp_path / "out"
    make_output(Location(output), units=2, photos=2, photo_bytes=2000)
    for number in range(4):
        orphan = output / "shards" / f"{UNIT}-0000000{number}.tar"
        orphan.write_bytes(bytes(1000))
        if number < 3:
            written = time.time() - (25 + number) * 3600
            os.utime(orphan, (written, written))
    (output / "shards" / "notes.txt").write_text("mine")
    return output


def _run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def _files(output: Path) -> int:
    return sum(path.is_file() for path in output.rglob("*"))


def test_it_changes_nothing_unless_asked(output: Path) -> None:
    before = _files(output)
    said = _run(output).stdout
    assert "3 objects, 0.0 MB  objects that no commit record names" in said
    assert f"    shards/{UNIT}-00000002.tar\n" in said
    assert "1 objects, 0.0 MB  kept: younger than 1 day" in said
    assert "    shards/notes.txt\n" in said
    assert said.endswith("run with --delete to delete them\n")
    assert _files(output) == before


def test_it_deletes_what_is_old_enough(output: Path) -> None:
    before = _files(output)
    assert "deleted 1 objects" in _run(output, "--delete", "--older-than", "1590m").stdout
    assert "deleted 2 objects" in _run(output, "--delete").stdout
    assert "nothing to delete beside 2 committed units" in _run(output, "--delete").stdout
    assert _files(output) == before - 3
    assert "deleted 1 objects" in _run(output, "--delete", "--older-than", "0").stdout
    assert CliRunner().invoke(verify.command, [str(output)]).exit_code == 0
    assert (output / "shards" / "notes.txt").read_text() == "mine"


def test_json_is_all_there_is(output: Path) -> None:
    result = _run(output, "--json")
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    assert (answer["units"], answer["delete"], answer["deleted"], answer["complaint"]) == (2, False, [], None)
    assert [(one["kind"], one["bytes"]) for one in answer["garbage"]] == [("orphan", 1000)] * 3
    assert len(answer["kept"]) == 1 and answer["foreign"] == ["shards/notes.txt"]
    assert len(json.loads(_run(output, "--delete", "--json").stdout)["deleted"]) == 3


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90m", timedelta(minutes=90)),
        ("36h", timedelta(hours=36)),
        ("7d", timedelta(days=7)),
        ("0", timedelta(0)),
        ("5s", timedelta(seconds=5)),
    ],
)
def test_ages_are_read(text: str, age: timedelta) -> None:
    assert _Age().convert(text, None, None) == age


def test_wrong_use_exits_2(output: Path) -> None:
    for wrong in ("24", "-1h", "1.5h", "soon", ""):
        assert "is no age" in _run(output, "--older-than", wrong, code=2).stderr
