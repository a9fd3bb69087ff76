"""The harness itself notices: what did not take place, how drivers end, and what goes wrong in its own threads."""

from __future__ import annotations

import os
import socket
import sys
import time
from types import SimpleNamespace

import pytest

from faults.checker import Verdict
from faults.drivers import start
from faults.outcome import Outcome
from faults.processes import clients
from faults.proxy import Request
from faults.schedule import Schedule, Strike
from faults.storm import Storm
from faults.table import never_hit, row

AT_ONCE = Strike("committer", "record", 1, "before", 0.0, 0)
DELAYED = Strike("machine", "record", 1, "before", 0.2, 0)
RECORD = Request(1, "PUT", "/bucket/out/commits/u.json", "", conditional=True)


def outcome(*strikes: Strike, **found: object) -> Outcome:
    schedule = Schedule(0, strikes, (), {})
    return Outcome(schedule, **{"code": 0, "stored": 1, "verdict": Verdict(photos=1), **found})


def test_a_strike_that_had_to_hit_and_did_not_fails_its_schedule():
    assert outcome(AT_ONCE, hits=[AT_ONCE]).passed
    assert outcome(DELAYED).passed
    assert outcome(AT_ONCE).reasons == ["missed: committer before record 1"]
    assert outcome(AT_ONCE, AT_ONCE, hits=[AT_ONCE]).missed == [AT_ONCE]


def test_a_victim_that_was_never_hit_is_named():
    assert never_hit([outcome(DELAYED), outcome(AT_ONCE, hits=[AT_ONCE])]) == ["machine"]
    assert never_hit([outcome(DELAYED), outcome(DELAYED, hits=[DELAYED])]) == []


def test_a_wrong_commit_is_caught_by_what_it_did_alone():
    lost = Verdict(photos=1, lost=["photo"])
    assert outcome(code=1, verdict=lost).caught
    assert outcome(rules=["a record was deleted"]).caught
    assert not outcome(code=1, verdict=lost, stored=0).caught
    assert not outcome(code=1, broken=["a driver that nobody killed ended with 1"]).caught


def test_the_table_tells_other_bytes_from_other_failures():
    equal = Verdict(photos=1, wrong=["a tar has a member twice"])
    unequal = Verdict(photos=1, unequal=["shards of u: other bytes than without faults"])
    assert row(outcome(verdict=equal))[7:9] == ("yes", "**no**: a tar has a member twice")
    assert row(outcome(verdict=unequal))[7] == "**no**"
    assert row(outcome())[7:9] == ("yes", "yes")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("pass", None),
        ("sys.exit(3)", None),
        ("print('dr2e: not everything could be finished', file=sys.stderr); sys.exit(1)", None),
        ("print('Traceback (most recent call last):'); sys.exit(3)", None),
        ("sys.exit(1)", "ended with 1: without a word"),
        ("raise ValueError", "ended with 1: without a word"),
        ("print('dr2e: no such setting', file=sys.stderr); sys.exit(2)", "ended with 2: dr2e: no such setting"),
        ("import os; os.kill(os.getpid(), 11)", "ended with -11: without a word"),
    ],
)
def test_a_driver_that_nobody_killed_must_end_as_a_run_ends(code, complaint, tmp_path):
    driver = start([sys.executable, "-c", f"import sys; {code}"], tmp_path, os.environ, tmp_path / "log")
    assert driver.complaint() == (complaint and f"a driver that nobody killed {complaint}")


def test_a_driver_that_was_killed_may_end_as_it_likes(tmp_path):
    driver = start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, os.environ, tmp_path / "log")
    driver.kill()
    assert driver.complaint() is None


@pytest.fixture
def storm(tmp_path):
    """A storm of AT_ONCE and DELAYED with a driver that does nothing, on a site that notes which machines die."""
    done = []
    machines = SimpleNamespace(kill_machine=lambda place: done.append("kill") or True, add=lambda: done.append("add"))
    site = SimpleNamespace(
        s3=SimpleNamespace(bucket="bucket"), output=lambda: "out", command=lambda *_: [], machines=machines, done=done
    )
    storm = Storm(site, Schedule(0, (AT_ONCE, DELAYED), (), {}))
    idle = [sys.executable, "-c", "import time; time.sleep(60)"]
    storm.drivers = [start(idle, tmp_path, os.environ, tmp_path / "log")]
    yield storm
    storm.drivers[0].kill()


def test_what_goes_wrong_in_a_strike_is_told(storm):
    assert storm.watch(RECORD, "before") is None  # this site has no workers to kill
    storm.subside()
    assert len(storm.outcome.broken) == 1
    assert "kill_worker" in storm.outcome.broken[0]


def test_no_strike_outlives_its_storm(storm):
    storm.watch(RECORD, "before")
    storm.subside()
    time.sleep(0.4)
    assert storm.site.done == []
    assert DELAYED in storm.outcome.missed


def test_every_machine_has_its_successor_when_the_storm_is_over(storm):
    storm.strike(DELAYED)
    storm.subside()
    assert storm.site.done == ["kill", "add"]
    assert storm.outcome.hits == [DELAYED]


def test_the_client_of_a_connection_is_found():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert clients(client.getsockname()[1]) == [os.getpid()]
