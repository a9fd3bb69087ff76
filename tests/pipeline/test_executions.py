from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from pipeline.executions import EXECUTIONS, Execution, history, now, recorded
from pipeline.ledger import LedgerError
from pipeline.storage import Location, StorageError


def begin(began: str = "2026-11-27T01:15:00+00:00") -> Execution:
    return Execution(began, "restoring", shards=10, size=1000, new_shards=2, new_bytes=200, gone=1, version="1")


def test_an_execution_is_there_from_its_begin_to_its_end(tmp_path: Path) -> None:
    location = Location(tmp_path)
    with recorded(location, begin(now())) as tally:
        (running,) = history(location)
        assert (running.ended, running.outcome, running.seconds, running.new_shards) == ("", "", None, 2)
        tally.photos, tally.faces, tally.rejected = 7, 9, 1
    (ended,) = history(location)
    assert (ended.outcome, ended.photos, ended.faces, ended.rejected, ended.gone) == ("complete", 7, 9, 1, 1)
    assert ended.seconds is not None and 0 <= ended.seconds < 60
    assert len(list((tmp_path / EXECUTIONS).iterdir())) == 1


def test_how_it_ended_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret")
    location = Location(tmp_path)

    def end(began: str, error: BaseException) -> None:
        with recorded(location, begin(f"2026-11-27T{began}:00+00:00")) as tally:
            tally.photos = 3
            raise error

    with pytest.raises(RuntimeError):
        end("01:00", RuntimeError("no room\nleft for canary-of-a-secret"))
    with pytest.raises(KeyboardInterrupt):
        end("02:00", KeyboardInterrupt())
    failed, interrupted = history(location)
    assert (failed.outcome, failed.reason, failed.photos) == ("failed", "no room left for ***", 3)
    assert (interrupted.outcome, interrupted.reason) == ("interrupted", "")


def test_storage_that_takes_no_history_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Location):
        def put(self, name: str, body: bytes | Path) -> None:
            raise StorageError("read-only")

    with caplog.at_level(logging.WARNING), recorded(Refusing(tmp_path), begin()):
        pass
    assert "the history of this run lacks a line: read-only" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [b"", b"[]", b'{"format": "another"}', b'{"format": "dr2e.execution/1"}'],
)
def test_what_is_none_is_named(damage: bytes, tmp_path: Path) -> None:
    location = Location(tmp_path)
    location.put(f"{EXECUTIONS}/x.json", damage)
    with pytest.raises(LedgerError, match=r"x\.json describes no execution .*delete it"):
        history(location)


def test_values_of_another_type_are_refused() -> None:
    told = json.loads(begin().to_json())
    assert Execution.from_json(json.dumps(told).encode(), "x") == begin()
    for name, value in (("photos", "3"), ("began", "yesterday"), ("reason", None), ("ended", "soon")):
        with pytest.raises(LedgerError):
            Execution.from_json(json.dumps({**told, name: value}).encode(), "x")
