"""What a worker counts of the units that go through its stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import pyarrow as pa

from pipeline.blocks import errors_of, failure_of
from pipeline.events.telling import serve
from pipeline.metrics.counting import begin, code_of, count, observe
from pipeline.metrics.names import (
    READ_BYTES,
    STAGE_FACES,
    STAGE_PHOTOS,
    STAGE_REJECTED,
    STAGE_SECONDS,
    STAGE_UNITS,
    STORAGE_RETRIES,
    Metric,
)

READ, COMMIT = "read", "commit"
"""The stages that none of `pipeline.stages` is."""


class Meter:
    """Of one stage of a run, in one process. Several threads may use it."""

    def __init__(self, run: str, stage: str) -> None:
        """run: its label."""
        serve(run)
        self.run, self.tags = run, {"run": run, "stage": stage}
        self._lock, self._known = threading.Lock(), dict[Metric, float]()
        for metric in (STAGE_UNITS, STAGE_PHOTOS, STAGE_FACES):
            begin(metric, **self.tags)
        begin(STORAGE_RETRIES, run=run)

    def done(self, photos: int, faces: int, codes: Iterable[str], seconds: float) -> None:
        """A unit went through. photos: that the stage had something to do for; faces: of them now; codes: why it
        rejected some."""
        count(STAGE_UNITS, outcome="done", **self.tags)
        count(STAGE_PHOTOS, photos, **self.tags)
        count(STAGE_FACES, faces, **self.tags)
        for code in codes:
            count(STAGE_REJECTED, code=code_of(code), **self.tags)
        observe(STAGE_SECONDS, seconds, **self.tags)

    def failed(self) -> None:
        """A unit failed here."""
        count(STAGE_UNITS, outcome="failed", **self.tags)

    def grown(self, totals: Callable[[], Mapping[Metric, float]]) -> None:
        """Count what some totals, which only ever grow, have grown by since the last time."""
        with self._lock:  # asked for inside: what another thread saw before must not come after
            for metric, total in totals().items():
                more, self._known[metric] = total - self._known.get(metric, 0.0), total
                count(metric, more, run=self.run)


def metered(blocks: Iterator[pa.Table], run: str) -> Iterator[pa.Table]:
    """The blocks that a task reads for the run of this label, counted as they come."""
    meter = Meter(run, READ)
    begin(READ_BYTES, run=run)
    started = time.perf_counter()
    for block in blocks:
        if failure_of(block):
            meter.failed()
        else:
            errors = errors_of(block)
            count(READ_BYTES, block.nbytes, run=run)
            meter.done(len(errors), 0, filter(None, errors), time.perf_counter() - started)
        yield block
        started = time.perf_counter()
