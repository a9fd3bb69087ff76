from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.executions import Execution, chronicled, history
from pipeline.ledger import EXECUTIONS
from pipeline.storage import Location, StorageError


def begin(hour: int = 1) -> Execution:
    began = datetime(2026, 11, 27, hour, 15, tzinfo=UTC)
    facts = {"shards": 10, "bytes": 1000, "new_shards": 2, "new_bytes": 200, "gone": 1}
    return Execution(work="restoring", began=began, version="1", **facts)


def test_an_execution_is_there_from_its_begin_to_its_end(tmp_path: Path) -> None:
    location = Location(tmp_path)
    with chronicled(location, begin()) as tally:
        (running,) = history(location)
        assert (running.ended, running.outcome, running.seconds, running.new_shards) == (None, None, None, 2)
        tally.photos, tally.faces, tally.rejected = 7, 9, 1
    (ended,) = history(location)
    assert (ended.outcome, ended.photos, ended.faces, ended.rejected, ended.gone) == ("complete", 7, 9, 1, 1)
    assert ended.ended is not None and ended.seconds == (ended.ended - begin().began).total_seconds()
    assert len(list((tmp_path / EXECUTIONS).iterdir())) == 1


def test_how_it_ended_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret")
    location = Location(tmp_path)

    def end(hour: int, error: BaseException) -> None:
        with chronicled(location, begin(hour)) as tally:
            tally.photos = 3
            raise error

    with pytest.raises(RuntimeError):
        end(1, RuntimeError("no room\nleft for canary-of-a-secret"))
    with pytest.raises(KeyboardInterrupt):
        end(2, KeyboardInterrupt())
    failed, interrupted = history(location)
    assert (failed.outcome, failed.reason, failed.photos) == ("failed", "no room left for ***", 3)
    assert (interrupted.outcome, interrupted.reason) == ("interrupted", "")


def test_storage_that_takes_no_history_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Location):
        def put(self, name: str, body: bytes | Path) -> None:
            raise StorageError("read-only")

    with caplog.at_level(logging.WARNING), chronicled(Refusing(tmp_path), begin()):
        pass
    assert "the history of this run lacks a line: read-only" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [b"", b"[]", b'{"format": "another"}', b'{"format": "dr2e.execution/1"}'],
)
def test_what_is_none_is_named_and_left_out(damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    location = Location(tmp_path)
    location.put(f"{EXECUTIONS}/x.json", damage)
    location.put(f"{EXECUTIONS}/y.json", begin().model_dump_json().encode())
    with caplog.at_level(logging.WARNING):  # libraries that other tests import turn warnings off
        assert history(location) == [begin()]
    assert "x.json describes no execution" in caplog.text and "delete it" in caplog.text


def test_values_of_another_type_are_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    location = Location(tmp_path)
    told = begin().model_dump(mode="json")
    for name, value in (("photos", "3"), ("began", "yesterday"), ("reason", None), ("outcome", "well")):
        location.put(f"{EXECUTIONS}/x.json", json.dumps({**told, name: value}).encode())
        with caplog.at_level(logging.WARNING):
            assert history(location) == []
        assert f"({name} " in caplog.messages[-1]


def test_what_a_later_release_tells_beside_is_no_fault(tmp_path: Path) -> None:
    location = Location(tmp_path)
    told = {**begin().model_dump(mode="json"), "more": 1}
    location.put(f"{EXECUTIONS}/x.json", json.dumps(told).encode())
    assert history(location) == [begin()]
