"""What the driver counts: it hears of every commit once, and lives as long as the run does."""

from __future__ import annotations

from pipeline.events.kinds import (
    IsolationBegan,
    IsolationEnded,
    PhotoLostWorker,
    Progressed,
    RoundBegan,
    RoundBrokeOff,
    UnitCommitted,
    UnitFailed,
    UnitsUnheard,
    WorkerLost,
)
from pipeline.events.telling import Told
from pipeline.metrics.counting import begin, code_of, count, gauge, observe
from pipeline.metrics.names import (
    BROKEN,
    COMMITS,
    COMMITTED,
    COMMITTED_BYTES,
    COMMITTED_EVALUATIONS,
    FACES,
    ISOLATED_LOSSES,
    ISOLATING,
    ISOLATIONS,
    LEFT_BYTES,
    LEFT_SHARDS,
    LOSSES,
    PHOTOS,
    REJECTED,
    ROUND,
    ROUNDS,
    UNIT_SECONDS,
    WRITTEN_BYTES,
)


class DriverMetrics:
    """A listener that counts what it is told of one run."""

    def __init__(self, run: str) -> None:
        """run: its label."""
        self.run, self.shards, self.left, self.isolating = run, 0, 0.0, False
        for metric in (*COMMITTED, *ROUND):
            begin(metric, run=run)

    def __call__(self, told: Told) -> None:
        run = self.run
        match told.event:
            case UnitCommitted() as unit:
                self.committed(unit)
            case UnitFailed(refused=refused):
                count(COMMITS, run=run, outcome="refused" if refused else "failed")
            case UnitsUnheard(units=units):
                count(COMMITS, units, run=run, outcome="unheard")
            case RoundBegan(shards=shards, bytes=left):
                count(ROUNDS, run=run)
                self.shards, self.left = shards, left
                self.set()
            case RoundBrokeOff():
                count(BROKEN, run=run)
            case WorkerLost(cause=cause):
                count(LOSSES, run=run, cause=cause)
            case IsolationBegan():
                count(ISOLATIONS, run=run)
                self.isolating = True
            case IsolationEnded():
                self.isolating = False
            case PhotoLostWorker():
                count(ISOLATED_LOSSES, run=run)
            case Progressed(left=left):
                self.left = left
                self.set()

    def committed(self, unit: UnitCommitted) -> None:
        """Count a unit that is done."""
        run = self.run
        count(COMMITS, run=run, outcome="beaten" if unit.beaten else "committed")
        for status, photos in (("restored", unit.restored), ("no_face", unit.no_face), ("rejected", unit.rejected)):
            count(PHOTOS, photos, run=run, status=status)
        count(FACES, unit.faces_restored, run=run, status="restored")
        count(FACES, unit.faces_kept, run=run, status="kept")
        for code, photos in unit.codes.items():
            count(REJECTED, photos, run=run, code=code_of(code))
        count(COMMITTED_EVALUATIONS, unit.evaluations, run=run)
        count(COMMITTED_BYTES, unit.share, run=run)
        count(WRITTEN_BYTES, unit.written, run=run)
        observe(UNIT_SECONDS, unit.seconds, run=run)
        self.left = max(0.0, self.left - unit.share)
        self.set()

    def set(self) -> None:
        """Set the gauges, which Ray forgets if nobody does for a while."""
        gauge(LEFT_BYTES, self.left, run=self.run)
        gauge(LEFT_SHARDS, self.shards, run=self.run)
        gauge(ISOLATING, self.isolating, run=self.run)
