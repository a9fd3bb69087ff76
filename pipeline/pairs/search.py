"""The search for near-duplicates, before any pair is made: every target is looked at, then the driver decides.

    shards ─ read ──> Target ──────────> Look ──> targets/UNIT.parquet ──> driver ──> duplicates/UNIT.parquet
             tasks    find, align, gate  tasks

Both objects of a unit are created if absent, so the search resumes by itself and a decision stays as it was taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pipeline.ledger import TARGETS
from pipeline.pairs.duplicates import decide
from pipeline.pairs.seen import SEEN, Seen, listed, seen_name, to_parquet
from pipeline.pairs.stages import of_pairs
from pipeline.records import Photo
from pipeline.run import Run
from pipeline.sink import Outcome, Sink
from pipeline.watchdog import beat
from pipeline.work import WorkOnUnits


class Look(Sink):
    """Stores what is seen of a unit's targets. A second worker that brings the same unit leaves what is there."""

    def __init__(self, run: Run, name: str) -> None:
        """name: as in `Search`."""
        super().__init__(run)
        self.name = name

    def store(self, photos: Sequence[Photo]) -> Outcome:
        seen = []
        for photo in photos:
            beat()
            seen.append(Seen.of(photo))
        first = photos[0]
        self.run.output.location.put_if_absent(seen_name(stored_as(first.unit, self.name)), to_parquet(seen, SEEN))
        return Outcome(
            unit=first.unit,
            photos=len(photos),
            faces=sum(row.hash is not None for row in seen),
            rejected=sum(row.error is not None for row in seen),
            share=first.shard_size / first.parts,
        )


class Search:
    """The search among the photos of `work`. run: what does it; work: what is left to look at.

    name: part of the names of its objects, "" among shards. A retry has one of its own: another retry of the same unit
    may be of other photos, or have other limits.
    """

    def __init__(self, run: Run, work: WorkOnUnits) -> None:
        self.name = _name(work.name, run)
        first, *_ = run.product.stages
        product = replace(
            run.product, verb="looking for near-duplicates", stages=(first,), sink=partial(Look, name=self.name)
        )
        self.run = Run(run.config, run.models, run.settings, product)
        self.units = work
        self.work = work.until(self.looked_at)

    def looked_at(self) -> set[str]:
        """The units of the work whose targets were looked at. Raises StorageError."""
        end = stored_as("", self.name)
        found = (name.removesuffix(end) for name in listed(self.run.output.location, TARGETS) if name.endswith(end))
        return {unit for unit in found if self.units.owns(unit)}

    def decide(self) -> None:
        """Decide which targets are near-duplicates, once all were looked at. Raises StorageError, LedgerError."""
        limit = of_pairs(self.run.config).gate.duplicates
        if limit is not None:
            names = [stored_as(unit, self.name) for unit in self.looked_at()]
            decide(self.run.output.location, names, limit)


def stored_as(unit: str, name: str) -> str:
    """What the objects of a unit are called in the search `name`."""
    return f"{unit}.{name}" if name else unit


def _name(work: str, run: Run) -> str:
    if not work or not run.settings:
        return work
    return hashlib.sha256(f"{work}\0{json.dumps(run.settings, sort_keys=True)}".encode()).hexdigest()[:8]
