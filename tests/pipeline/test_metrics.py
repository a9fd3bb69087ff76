"""What the driver and the stages count, without Ray; with it, see tests/jobs/test_observed_run.py."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.blocks import failure_of, to_block
from pipeline.commit import Receipt
from pipeline.config import ConfigError, Resources, build
from pipeline.events.kinds import UnitCommitted
from pipeline.ledger import COUNTS, CommitRecord
from pipeline.metrics import counting, driver, working
from pipeline.metrics.counting import OTHER, code_of, count
from pipeline.metrics.driver import DriverMetrics
from pipeline.metrics.names import EVALUATIONS, METRICS, PHOTOS, Metric
from pipeline.records import Photo
from pipeline.rounds import tell_outcome
from pipeline.session import session
from pipeline.sink import REJECTS_TOLD, Outcome, outcomes, told_of
from pipeline.stages import Stage

Counted = Counter[tuple[str, ...]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """What is counted, by name and the values of the tags behind `run`."""
    found = Counted()

    def note(metric: Metric, value: float = 1, /, **tags: str) -> None:
        assert set(tags) == set(metric.tags)
        found[metric.name, *(tags[tag] for tag in metric.tags[1:])] += value  # type: ignore[assignment]

    for module in (driver, working, counting):
        for name in ("count", "gauge", "observe"):
            monkeypatch.setattr(module, name, note, raising=False)
    return found


def committed(unit: str = "u", **changes: object) -> UnitCommitted:
    fields = {
        "unit": unit, "beaten": False, "photos": 4, "restored": 2, "no_face": 1, "rejected": 1, "faces": 3,
        "faces_restored": 2, "faces_kept": 1, "evaluations": 18, "share": 1000.0, "written": 5000, "seconds": 7.0,
        "codes": {"image.empty": 1},
    }  # fmt: skip
    return UnitCommitted.model_validate({**fields, **changes})


def test_a_unit_that_was_tried_again_is_counted_once(counted: Counted) -> None:
    from pipeline.events.telling import listening

    with listening(DriverMetrics("out")):
        tell_outcome(Outcome("u", "commit: it is full", outside=True, refused=True))
        tell_outcome(Outcome("u", "restore: out of memory"))
        tell_outcome(Outcome("u", photos=4, faces=3, committed=committed()))
        tell_outcome(Outcome("v", photos=4, faces=3, committed=committed("v", beaten=True, codes={}, rejected=0)))
    gauges = {metric.name for metric in METRICS if metric.kind == "gauge"}
    found = {key: value for key, value in counted.items() if value and key[0] not in gauges}
    outcomes = {"refused": 1, "failed": 1, "committed": 1, "beaten": 1}
    assert found == {
        **{("dr2e_commits_total", outcome): value for outcome, value in outcomes.items()},
        ("dr2e_photos_total", "restored"): 4,
        ("dr2e_photos_total", "no_face"): 2,
        ("dr2e_photos_total", "rejected"): 1,
        ("dr2e_rejected_total", "image.empty"): 1,
        ("dr2e_faces_total", "restored"): 4,
        ("dr2e_faces_total", "kept"): 2,
        ("dr2e_committed_evaluations_total",): 36,
        ("dr2e_committed_input_bytes_total",): 2000,
        ("dr2e_written_bytes_total",): 10000,
        ("dr2e_unit_seconds",): 14,
    }


class Growing(Stage):
    """Cannot stand photos called "bad", and blames the machine for those called "disk"."""

    name = "grow"

    def __init__(self, _: object) -> None:
        self.seen = 0

    def totals(self) -> dict[Metric, float]:
        return {EVALUATIONS: self.seen}

    def work(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            if photo.key == "bad":
                raise ZeroDivisionError
            if photo.key == "disk":
                raise OSError("no space left")
            self.seen += 1


def test_a_stage_counts_its_units_photos_and_what_it_has_done(counted: Counted) -> None:
    stage = Growing(build({"input": "in", "output": "out"}))

    def through(*keys: str) -> bool:
        photos = [Photo("u", place, key, f"{key}.jpg", b"x") for place, key in enumerate(keys)]
        return failure_of(stage(to_block("u", photos))) is None

    assert through("a", "b") and through("c", "bad") and not through("disk")
    assert counted["dr2e_stage_units_total", "grow", "done"] == 2
    assert counted["dr2e_stage_units_total", "grow", "failed"] == 1
    assert counted["dr2e_stage_photos_total", "grow"] == 4
    assert counted["dr2e_stage_rejected_total", "grow", "grow.failed"] == 1
    assert counted[("dr2e_evaluations_total",)] == stage.seen == 4  # "c" twice: with "bad", and alone


def test_what_a_commit_tells_travels_whole_and_bounded() -> None:
    outcome = Outcome("u", photos=4, faces=3, committed=committed(), rejects=(("ä\n", "image.empty"),))
    plain = Outcome("v", "no", outside=True, refused=True)
    assert list(outcomes(outcome.to_block())) == [outcome] and list(outcomes(plain.to_block())) == [plain]
    assert outcome.to_block().schema == plain.to_block().schema
    assert build({"input": "in", "output": "out"}).unit.max_samples > REJECTS_TOLD


@pytest.mark.parametrize(
    "changes",
    [
        {"started": "2026-01-01T00:00:00"},
        {"errors": {"\ud800": 1}},
        {"errors": {"x" * 10_000: 1}},
        {"errors": {"a": 2**62}},
    ],
)
def test_a_record_of_somebody_else_fails_no_unit(changes: dict[str, object]) -> None:
    record = CommitRecord(
        unit="u", attempt="a", shard="s.tar", shard_bytes=1, shard_etag="", part=0, parts=1, objects=(),
        counts=dict.fromkeys(COUNTS, 1), errors={}, models={}, seconds={},
        started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:00:07+00:00",
    )  # fmt: skip
    outcome = Outcome("u", committed=told_of(Receipt(replace(record, **changes), won=False)))  # type: ignore[arg-type]
    (arrived,) = outcomes(outcome.to_block())
    assert arrived == outcome
    assert arrived.committed is None or set(arrived.committed.codes) <= {OTHER, "a"}


def test_counting_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    count(PHOTOS, 1, run="out", status="restored")  # outside of Ray
    for broken in (SimpleNamespace(), SimpleNamespace(is_initialized=lambda: True, util=None)):
        monkeypatch.setitem(sys.modules, "ray", broken)
        monkeypatch.setitem(sys.modules, "ray.util.metrics", broken)
        count(PHOTOS, 1, run="out", status="restored")
        count(PHOTOS, 1, wrong="tag")


def test_tags_have_few_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_codes", set())
    assert code_of("image.too_large") == "image.too_large" and code_of("face.none") == "face.none"
    assert code_of("Dr. Who's photo") == code_of("https://host/x") == code_of("x" * 90) == OTHER
    assert len({code_of(f"c{'abcdefghij'[i // 100]}.{i}") for i in range(1000)}) <= 101
    assert {tag for metric in METRICS for tag in metric.tags} == {"run", "status", "code", "outcome", "cause", "stage"}


def test_a_port_that_cannot_be_had_is_refused_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # it may be, by another test
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"resources.metrics_port: {port}: Address already in use; name another"),
            session(None, Resources(metrics_port=port)),
        ):
            pass
    with (
        pytest.raises(ConfigError, match=r"the Ray cluster at host:1 has its own.*--metrics-export-port"),
        session("host:1", Resources(metrics_port=port)),
    ):
        pass
