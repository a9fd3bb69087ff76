from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.executions import Execution
from pipeline.ledger import CommitRecord
from pipeline.pace import Pace, PaceKeeper

BEGAN = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)


def execution(**facts: object) -> Execution:
    return Execution(work="restoring", began=BEGAN, version="1", **{"bytes": 1000, "new_bytes": 800, **facts})


def commit(minute: float, photos: int = 60, parts: int = 2) -> CommitRecord:
    """Half a shard of 200 bytes, so many minutes after the begin."""
    ended = (BEGAN + timedelta(minutes=minute)).isoformat()
    counts = {"photos": photos, "faces": 2 * photos}
    return CommitRecord("u", "", "s.tar", 200, "", 0, parts, (), counts, {}, {}, {}, ended, ended)


def pace(one: Execution, now: float, *commits: CommitRecord) -> Pace:
    keeper = PaceKeeper(one, BEGAN + timedelta(minutes=now))
    for record in commits:
        keeper.add(record)
    return keeper.pace()


def test_a_run_at_work() -> None:
    found = pace(execution(), 5, commit(-600), commit(1), commit(4))
    assert found.state == "at work"
    assert found.share == pytest.approx(0.4), "200 bytes were done before, 200 are since"
    assert found.photos_per_second == pytest.approx(120 / 300)
    assert found.faces_per_second == pytest.approx(240 / 300)
    assert found.seconds_left == pytest.approx(600 * 240 / 200), "600 bytes at 200 in four minutes"
    assert found.silent_seconds == pytest.approx(60)


def test_the_rate_is_that_of_lately() -> None:
    found = pace(execution(), 60, commit(10), commit(20), commit(55))
    assert found.photos_per_second == pytest.approx(60 / 600)


def test_before_its_first_commit_nobody_knows_the_rest() -> None:
    found = pace(execution(), 3)
    assert (found.share, found.photos_per_second, found.seconds_left) == (pytest.approx(0.2), 0.0, None)
    assert found.silent_seconds == pytest.approx(180)


def test_a_run_that_has_ended_is_measured_over_all_of_it() -> None:
    ended = execution(ended=BEGAN + timedelta(minutes=20), outcome="complete")
    found = pace(ended, 6000, commit(1), commit(15))
    assert found == Pace("complete", 1.0, pytest.approx(0.1), pytest.approx(0.2), None, None)


def test_a_failed_run_says_how_far_it_came() -> None:
    found = pace(execution(ended=BEGAN + timedelta(minutes=2), outcome="failed"), 50, commit(1))
    assert (found.state, found.share, found.seconds_left) == ("failed", pytest.approx(0.3), None)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_run_with_nothing_new_is_all_done(size: int) -> None:
    ended = execution(bytes=size, new_bytes=0, ended=BEGAN, outcome="complete")
    assert pace(ended, 1).share == 1.0
