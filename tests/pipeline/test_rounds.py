"""When a run goes on, when it tries photos one by one, when it ends, and what it says then."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import OutOfDiskError, RayTaskError

from pipeline import rounds
from pipeline.config import build
from pipeline.product import product_of
from pipeline.resources import Node, Sizes
from pipeline.rounds import REFUSALS, RunFailed, gist, run_rounds
from pipeline.session import ClusterError
from pipeline.sink import Outcome
from pipeline.storage import StorageError
from pipeline.work import Left

UNITS = 100


class Imagined:
    """A run whose stream and isolation are functions of this test; nothing is read or restored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Callable[[str], Outcome | None]) -> None:
        """outcome: what becomes of a unit; None when its worker dies."""
        self.outcome = outcome
        self.done: set[str] = set()
        self.tried: list[list[str]] = []
        self.alone: list[str] = []
        monkeypatch.setattr(rounds, "stream", self.stream)
        monkeypatch.setattr(rounds, "isolate", self.isolate)
        monkeypatch.setattr(rounds, "session", self.session)
        monkeypatch.setattr(rounds, "nodes", self.nodes)
        self.machines: list[list[Node]] = []
        self.workers: list[tuple[str, int]] = []
        self.threads: list[int] = []

    def run(self, **resources: object) -> None:
        config = build({"input": "in", "output": "out", "resources": resources})
        run: Any = SimpleNamespace(config=config, product=product_of(config), label="out")
        run_rounds(run, self, None, io.StringIO())

    def left(self) -> Left:
        units = [f"unit-{i:03d}" for i in range(UNITS) if f"unit-{i:03d}" not in self.done]
        reads: Any = tuple(units)
        return Left(reads, len(self.done), len(units))

    @contextmanager
    def session(self, *_: object) -> Iterator[list[Node]]:
        yield self.nodes()

    def nodes(self) -> list[Node]:
        """The machines of the next moment; a pair at the end."""
        found = self.machines.pop(0) if self.machines else [Node(2, 0)]
        if not found:
            raise ClusterError("no machine")
        return found

    def stream(self, _run: object, reads: Sequence[str], sizes: Sizes) -> Iterator[Outcome]:
        self.tried.append(list(reads))
        self.workers.append((sizes.device, sizes.restore.workers))
        self.threads.append(sizes.restore.threads)
        for unit in reads:
            outcome = self.outcome(unit)
            if outcome is not None:
                self.done |= set() if outcome.failure else {unit}
                yield outcome

    def isolate(self, _run: object, reads: Sequence[str], _sizes: object) -> Iterator[Outcome]:
        for unit in reads:
            self.alone.append(unit)
            self.done.add(unit)
            yield Outcome(unit, photos=1)


def test_a_graph_gets_so_many_shards_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Imagined(monkeypatch, lambda unit: Outcome(unit, photos=1))
    run.run(shards_at_once=30)
    assert [len(reads) for reads in run.tried] == [30, 30, 30, 10]
    assert len(run.done) == UNITS


def test_machines_that_come_widen_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Imagined(monkeypatch, lambda unit: Outcome(unit, photos=1))
    one, three, none = [Node(8, 1)], [Node(8, 1)] * 3, list[Node]()
    without_gpus = [Node(8, 0)] * 5
    run.machines = [one, one, one, three, none, without_gpus, [Node(8, 1)] * 2]  # the first for the session itself
    run.run(shards_at_once=20)
    assert run.workers == [("cuda", 1), ("cuda", 3), ("cuda", 3), ("cuda", 3), ("cuda", 2)]


def test_threads_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU's convolutions round by their number."""
    run = Imagined(monkeypatch, lambda unit: Outcome(unit, photos=1))
    run.machines = [[Node(16, 0)], [Node(16, 0)], [Node(16, 0)], [Node(4, 0)]]
    run.run(shards_at_once=50)
    assert run.threads == [16, 16]


def test_units_whose_workers_die_are_tried_again_and_then_photo_by_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Imagined(monkeypatch, lambda unit: None if unit.endswith("7") else Outcome(unit, photos=1))
    run.run()
    assert [len(reads) for reads in run.tried] == [100, 10] and len(run.alone) == 10


def test_an_output_that_takes_nothing_ends_the_run_before_the_rest_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = "commit: cannot write out/shards/x.tar: No space left on device; free some space"
    run = Imagined(monkeypatch, lambda unit: Outcome(unit, full, outside=True, refused=True))
    with pytest.raises(RunFailed, match=f"{REFUSALS} units were restored.*No space left on device"):
        run.run()
    assert len(run.tried) == 1 and not run.alone


def test_an_output_that_takes_something_now_and_then_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def outcome(unit: str) -> Outcome:
        calls.append(unit)
        return Outcome(unit, "", photos=1) if len(calls) % 5 == 0 else Outcome(unit, "busy", outside=True, refused=True)

    run = Imagined(monkeypatch, outcome)
    with pytest.raises(RunFailed, match=r"unit-.*busy"):  # when so few are left that a round has no lucky one
        run.run()
    assert UNITS - len(run.done) < 5 and not run.alone


def test_no_photo_is_blamed_for_a_full_disk(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    full = RayTaskError("read", "", OutOfDiskError())

    def lost(_: str) -> None:
        # As Ray Data does with blocks it goes on without.
        logging.getLogger("ray.data.somewhere").error("An exception was raised", exc_info=full)

    run = Imagined(monkeypatch, lost)
    told = pytest.raises(RunFailed, match=r"object store is full.*--object-spilling-directory.*run it again")
    with caplog.at_level(logging.WARNING), told:  # libraries that other tests import turn warnings off
        run.run()
    assert not run.alone
    assert "round 1 lost units, of 100 shards at most: Ray's object store is full" in caplog.text


def test_no_more_shards_are_tried_when_there_is_no_room_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    full = RayTaskError("read", "", OutOfDiskError())
    run = Imagined(monkeypatch, lambda _: logging.getLogger("ray.data").error("lost", exc_info=full))
    with pytest.raises(RunFailed, match="object store is full"):
        run.run(shards_at_once=10)
    assert len(run.tried) == 1


def test_unreadable_shards_between_them_excuse_no_output_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(unit: str) -> Outcome:
        unreadable = int(unit.rpartition("-")[2]) % 5 == 0
        return Outcome(unit, "no", outside=True, refused=not unreadable)

    run = Imagined(monkeypatch, outcome)
    with pytest.raises(RunFailed, match=f"{REFUSALS} units were restored and could not be stored"):
        run.run()
    assert len(run.tried) == 1


def test_a_shard_that_cannot_be_read_keeps_nobody_from_being_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(unit: str) -> Outcome | None:
        if unit == "unit-000":
            return Outcome(unit, "cannot read in/0.tar: Permission denied", outside=True)
        if unit == "unit-001":
            logging.getLogger("ray.data").error("An exception was raised", exc_info=RuntimeError("the actor died"))
            return None
        return Outcome(unit, photos=1)

    run = Imagined(monkeypatch, outcome)
    run.run()
    assert run.alone == ["unit-000", "unit-001"]


def test_storage_that_goes_away_on_the_way_is_a_failure_and_no_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Imagined(monkeypatch, lambda unit: Outcome(unit, photos=1))
    believed, calls = run.left, iter(range(100))

    def left() -> Left:
        if next(calls) == 2:
            raise StorageError("cannot list s3://b/out/commits: gone")
        return believed()

    monkeypatch.setattr(run, "left", left)
    with pytest.raises(RunFailed, match=r"cannot list .*commits: gone.*run it again"):
        run.run()


def test_a_round_that_the_drivers_own_disk_breaks_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = Imagined(monkeypatch, broken)
    with pytest.raises(RunFailed, match="is full"):
        run.run()
    assert not run.alone


def test_photos_are_tried_one_by_one_when_only_some_losses_are_for_want_of_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = logging.getLogger("ray.data")

    def lost(unit: str) -> None:
        error = ValueError("the actor died") if unit == "unit-003" else RayTaskError("read", "", OutOfDiskError())
        log.error("An exception was raised", exc_info=error)

    run = Imagined(monkeypatch, lost)
    run.run()
    assert len(run.alone) == UNITS


def test_a_remote_traceback_becomes_its_beginning_and_its_cause():
    remote = "The actor died in its creation task, \x1b[36mray::X\x1b[39m (pid=1)\n\nWeightsError: cut\n"
    assert gist(RuntimeError(remote)) == "The actor died in its creation task: WeightsError: cut"
    assert gist(RuntimeError("disk full")) == "disk full"
    assert gist(RuntimeError()) == "RuntimeError"
