"""A verification that is interrupted goes on, and never takes a unit for read that is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.commit import CommitContext, commit_unit
from pipeline.ledger import SHARDS
from pipeline.output import Output
from pipeline.records import Photo
from pipeline.storage import Location
from pipeline.verification import Checked, Finding, Journal, JournalError, verify

MakeUnit = Callable[..., list[Photo]]

COUNT = 6
UNITS = [f"s-12345678-{part:04d}-of-{COUNT:04d}" for part in range(COUNT)]


class Counting(Location):
    """Notes which tars are read."""

    def __init__(self, url: str | Path) -> None:
        super().__init__(url)
        self.tars: set[str] = set()

    def read_range(self, name: str, start: int, end: int) -> bytes:
        self.tars.add(name)
        return super().read_range(name, start, end)


@pytest.fixture
def place(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> Counting:
    place = Counting(tmp_path / "out")
    for part, unit in enumerate(UNITS):
        commit_unit(place, make_unit(unit, part, COUNT), context)
    return place


def _verify(place: Counting, journal: Path) -> tuple[list[Finding], set[str], int]:
    """The findings, the units whose tars were read now, and how many were read before."""
    place.tars.clear()
    with Journal(journal, place.url) as notes:
        found = verify(place, journal=notes)
    return found.findings, {unit for unit in UNITS for name in place.tars if unit in name}, found.read_before


class Killed(BaseException):
    pass


def test_what_was_read_is_not_read_again(place: Counting, tmp_path: Path) -> None:
    assert _verify(place, tmp_path / "j") == ([], set(UNITS), 0)
    assert _verify(place, tmp_path / "j") == ([], set(), COUNT)


def test_an_interrupted_verification_goes_on(place: Counting, tmp_path: Path) -> None:
    def kill(checked: Checked) -> None:
        if checked.done == 4:
            raise Killed

    with Journal(tmp_path / "j", place.url) as journal, pytest.raises(Killed):
        verify(place, journal=journal, on_unit=kill)
    assert _verify(place, tmp_path / "j") == ([], set(UNITS[4:]), 4)


def test_a_killed_process_leaves_a_journal_to_go_on_with(place: Counting, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from pipeline.storage import Location
from pipeline.verification import Journal, verify
place = Location(sys.argv[1])
def kill(checked):
    if checked.done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
with Journal(Path(sys.argv[2]), place.url) as journal:
    verify(place, journal=journal, on_unit=kill)
"""
    process = subprocess.run([sys.executable, "-c", code, place.url, tmp_path / "j"], cwd=os.getcwd(), check=False)
    assert process.returncode == -signal.SIGKILL
    assert _verify(place, tmp_path / "j") == ([], set(UNITS[3:]), 3)


def test_every_torn_journal_is_good_up_to_its_tear(place: Counting, tmp_path: Path) -> None:
    _verify(place, tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = [sum(map(len, lines[: number + 1])) for number in range(len(lines))]
    for cut in [0, 1, ends[0] - 1, ends[0], ends[0] + 1, ends[2] - 1, ends[2], ends[3] + 40, len(whole) - 1]:
        torn = tmp_path / f"torn-{cut}"
        torn.write_bytes(whole[:cut])
        kept = max(sum(end <= cut for end in ends) - 1, 0)
        assert _verify(place, torn) == ([], set(UNITS[kept:]), kept)
        assert sorted(torn.read_bytes().splitlines()) == sorted(whole.splitlines()), "mended by the next lines"


def test_a_line_that_makes_no_sense_is_no_proof(place: Counting, tmp_path: Path) -> None:
    _verify(place, tmp_path / "j")
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    lines[1:5] = [b"\0\xff\n", b"[]\n", b'{"unit": "x", "record": "zz", "findings": []}\n', b'{"unit": 1}\n']
    (tmp_path / "j").write_bytes(b"".join(lines))
    assert _verify(place, tmp_path / "j") == ([], set(UNITS[:4]), 2)


def test_a_unit_whose_record_changed_is_read_again(
    place: Counting, tmp_path: Path, make_unit: MakeUnit, context: CommitContext
) -> None:
    _verify(place, tmp_path / "j")
    place.delete(f"commits/{UNITS[2]}.json")
    commit_unit(place, make_unit(UNITS[2], 2, COUNT), context)
    assert _verify(place, tmp_path / "j") == ([], {UNITS[2]}, COUNT - 1)


def test_a_unit_with_findings_is_noted_and_read_again(place: Counting, tmp_path: Path) -> None:
    stored = Output(place).record(UNITS[1]).object(SHARDS)
    assert stored is not None
    data = place.read(stored.name)
    place.put(stored.name, data[:-1] + b"x")
    (finding,), _, _ = _verify(place, tmp_path / "j")
    assert (finding.code, finding.subject) == ("object.changed", stored.name)
    (line,) = (json.loads(line) for line in (tmp_path / "j").read_text().splitlines() if UNITS[1] in line)
    assert line["findings"] == [vars(finding)]
    assert line["attempt"] == Output(place).record(UNITS[1]).attempt
    assert _verify(place, tmp_path / "j") == ([finding], {UNITS[1]}, COUNT - 1)
    place.put(stored.name, data)
    assert _verify(place, tmp_path / "j") == ([], {UNITS[1]}, COUNT - 1)
    assert _verify(place, tmp_path / "j") == ([], set(), COUNT)


def test_what_is_lost_since_is_found_with_a_journal_too(place: Counting, tmp_path: Path) -> None:
    _verify(place, tmp_path / "j")
    stored = Output(place).record(UNITS[1]).object(SHARDS)
    assert stored is not None
    place.delete(stored.name)
    place.delete(f"commits/{UNITS[5]}.json")
    findings, _, _ = _verify(place, tmp_path / "j")
    assert [finding.code for finding in findings] == ["object.missing", "unit.missing"]


def test_a_photo_repeated_across_the_interruption_is_found(
    place: Counting, tmp_path: Path, make_unit: MakeUnit, context: CommitContext
) -> None:
    place.delete(f"commits/{UNITS[5]}.json")
    _verify(place, tmp_path / "j")
    photos = make_unit(UNITS[5], 5, COUNT)
    photos[1].key = "0-none"
    commit_unit(place, photos, context)
    (finding,), read, before = _verify(place, tmp_path / "j")
    assert (finding.code, read, before) == ("photo.repeated", {UNITS[5]}, 5)


def test_a_file_that_is_no_journal_is_left_alone(place: Counting, tmp_path: Path) -> None:
    for content in (b"my thesis", b"my thesis\n", b"{}\n", b"[]\n", b'{"format": "dr2e.verify/2"}\n'):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(JournalError, match="name another file"):
            _verify(place, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == content
    with Journal(tmp_path / "j", "s3://elsewhere"):
        pass
    with pytest.raises(JournalError, match="that of s3://elsewhere"):
        _verify(place, tmp_path / "j")
    with pytest.raises(JournalError, match="cannot write the journal"):
        _verify(place, tmp_path / "no" / "folder")


def test_two_verifications_do_not_share_a_journal(place: Counting, tmp_path: Path) -> None:
    with Journal(tmp_path / "j", place.url), pytest.raises(JournalError, match="in use"):
        _verify(place, tmp_path / "j")
