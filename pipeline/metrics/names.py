"""Every metric, once: docs/metrics.md, the dashboard and all that counts take them from here.

Tags have few values each: no key of a photo, no unit, no URL. `run` is `label_of` the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000)
"""Limits of the buckets of times: a small photo takes tenths of a second, a unit of group pictures on a CPU hours."""

_RAY = "ray_"  # what Ray puts before every name


@dataclass(frozen=True)
class Metric:
    """name: without what Ray puts before it. unit: of its values. tags: beside those Ray adds. values: of tags, where
    they are few and known, for series that begin at nought."""

    name: str
    kind: Kind
    unit: str
    description: str
    tags: tuple[str, ...] = ("run",)
    values: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """Its name in Prometheus; those of a histogram's series begin with it."""
        return f"{_RAY}{self.name}"

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series in Prometheus."""
        if self.kind != "histogram":
            return (self.exported,)
        return tuple(f"{self.exported}_{part}" for part in ("bucket", "sum", "count"))


# What is committed, counted by the driver when it hears of it: once, however often it was tried.

PHOTOS = Metric(
    "dr2e_photos_total", "counter", "photos", "committed, by what became of them",
    ("run", "status"), ("restored", "no_face", "rejected"),
)  # fmt: skip
REJECTED = Metric("dr2e_rejected_total", "counter", "photos", "committed as rejected, by reason", ("run", "code"))
FACES = Metric(
    "dr2e_faces_total", "counter", "faces", "committed: restored, or kept as they came",
    ("run", "status"), ("restored", "kept"),
)  # fmt: skip
COMMITTED_EVALUATIONS = Metric(
    "dr2e_committed_evaluations_total", "counter", "evaluations", "of the prior, for what is committed"
)
COMMITTED_BYTES = Metric("dr2e_committed_input_bytes_total", "counter", "bytes", "of the input that is committed")
WRITTEN_BYTES = Metric("dr2e_written_bytes_total", "counter", "bytes", "of the objects of committed units")
COMMITS = Metric(
    "dr2e_commits_total",
    "counter",
    "units",
    "by outcome: committed; beaten, another attempt had done it before; refused, finished and not taken by the output; "
    "failed; unheard, committed by a worker that could not say so any more, or by another run",
    ("run", "outcome"),
    ("committed", "beaten", "refused", "failed", "unheard"),
)
UNIT_SECONDS = Metric("dr2e_unit_seconds", "histogram", "seconds", "of a committed unit, from reading to commit")

# How rounds get on, counted by the driver.

ROUNDS = Metric("dr2e_rounds_total", "counter", "rounds", "begun")
BROKEN = Metric("dr2e_rounds_broken_total", "counter", "rounds", "broken off: Ray gave up the graph")
LOSSES = Metric(
    "dr2e_losses_total", "counter", "losses",
    "of blocks, as Ray Data tells them: room, a full object store or disk; other, as a rule a dead worker",
    ("run", "cause"), ("room", "other"),
)  # fmt: skip
ISOLATIONS = Metric("dr2e_isolations_total", "counter", "isolations", "begun: what was left went photo by photo")
ISOLATED_LOSSES = Metric("dr2e_isolated_losses_total", "counter", "photos", "that lost their worker alone")
ISOLATING = Metric("dr2e_isolating", "gauge", "0 or 1", "whether photos go one by one now")
LEFT_SHARDS = Metric("dr2e_left_shards", "gauge", "shards", "that had something left to do when the round began")
LEFT_BYTES = Metric("dr2e_left_bytes", "gauge", "bytes", "of input that are not committed yet")

# Work, counted by the workers that do it: what is tried twice counts twice.

STAGE_UNITS = Metric(
    "dr2e_stage_units_total", "counter", "units", "that went through a stage, or failed in it",
    ("run", "stage", "outcome"), ("done", "failed"),
)  # fmt: skip
STAGE_PHOTOS = Metric("dr2e_stage_photos_total", "counter", "photos", "that a stage worked on", ("run", "stage"))
STAGE_FACES = Metric("dr2e_stage_faces_total", "counter", "faces", "that a stage handed on", ("run", "stage"))
STAGE_REJECTED = Metric(
    "dr2e_stage_rejected_total", "counter", "photos", "that a stage rejected, by reason", ("run", "stage", "code")
)
STAGE_SECONDS = Metric("dr2e_stage_seconds", "histogram", "seconds", "that a stage took for a unit", ("run", "stage"))
READ_BYTES = Metric("dr2e_read_bytes_total", "counter", "bytes", "of photos and what came with them, as read")
EVALUATIONS = Metric("dr2e_evaluations_total", "counter", "evaluations", "of the prior: faces the network saw")
BATCH_ROWS = Metric("dr2e_batch_rows_total", "counter", "rows", "of the network's batches, padding included")
STORAGE_RETRIES = Metric(
    "dr2e_storage_retries_total", "counter", "attempts", "at storage that was busy or away, after the first"
)

COMMITTED = (PHOTOS, REJECTED, FACES, COMMITTED_EVALUATIONS, COMMITTED_BYTES, WRITTEN_BYTES, COMMITS, UNIT_SECONDS)
ROUND = (ROUNDS, BROKEN, LOSSES, ISOLATIONS, ISOLATED_LOSSES, ISOLATING, LEFT_SHARDS, LEFT_BYTES)
WORK = (
    STAGE_UNITS, STAGE_PHOTOS, STAGE_FACES, STAGE_REJECTED, STAGE_SECONDS,
    READ_BYTES, EVALUATIONS, BATCH_ROWS, STORAGE_RETRIES,
)  # fmt: skip
METRICS = (*COMMITTED, *ROUND, *WORK)
