from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.commit import CommitContext, commit_unit
from pipeline.ledger import LedgerError
from pipeline.output import Output
from pipeline.records import Photo

MakeUnit = Callable[..., list[Photo]]

UNITS = ["s-12345678-0000-of-0002", "s-12345678-0001-of-0002"]


@pytest.fixture
def output(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> Output:
    output = Output(tmp_path / "out")
    for part, unit in enumerate(UNITS):
        commit_unit(output.location, make_unit(unit, part, len(UNITS)), context)
    return output


def test_status_adds_up(output: Output) -> None:
    status = output.status()
    assert (status.units, status.units_open, status.shards) == (2, 0, 1)
    assert status.counts["photos"] == 8 and status.counts["faces"] == 4
    assert status.errors == {"image.truncated": 2, "sample.no_image": 2}
    assert status.bytes == sum(e.size for e in output.location.entries() if not e.name.startswith("commits/"))
    assert status.seconds["detect"] == 4.0
    json.dumps(status.to_dict(), allow_nan=False)


def test_an_empty_output_has_a_status(tmp_path: Path) -> None:
    status = Output(tmp_path / "nothing").status()
    assert (status.units, status.counts["photos"], status.started) == (0, 0, None)
    assert Output(tmp_path / "nothing").verify() == []
    assert Output(tmp_path / "nothing").run() is None


def test_records_come_sorted_and_whole(output: Output) -> None:
    assert [record.unit for record in output.records()] == UNITS
    assert output.committed() == set(UNITS)


def test_what_lies_around_is_no_commit(output: Output) -> None:
    output.location.put("commits/notes.txt", b"hello")
    output.location.put("commits/old/u.json", b"{}")
    assert output.committed() == set(UNITS)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "dr2e.commit/2"}'])
def test_a_record_that_cannot_be_read_is_named(content: bytes, output: Output) -> None:
    output.location.put(f"commits/{UNITS[1]}.json", content)
    with pytest.raises(LedgerError, match=UNITS[1]):
        output.status()


def test_units_that_are_not_there_yet_are_counted(output: Output) -> None:
    output.location.delete(f"commits/{UNITS[1]}.json")
    assert output.status().units_open == 1
    assert len(output.orphans()) == 3


def test_manifest_columns_can_be_chosen(output: Output) -> None:
    table = output.manifest(output.record(UNITS[0]), ["key", "status"])
    assert table.column_names == ["key", "status"] and table.num_rows == 4
