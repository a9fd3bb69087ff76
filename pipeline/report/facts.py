"""What a report says, as data: gathered in one pass over commit records and manifests, in bounded memory."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

GALLERY = 9
"""Strips of one gallery; a report has at most four galleries."""

QUARANTINE_EXAMPLES = 100
"""Rejected photos named one by one; all of them are counted."""


@dataclass(frozen=True)
class Strip:
    """One face's JPEG strip, before | after DR2 | after the enhancer, and its numbers."""

    shard: str
    key: str
    face: int
    jpeg: bytes
    status: str
    n: int | None
    tau: int | None
    niqe_in: float
    niqe_out: float

    @property
    def name(self) -> tuple[str, str, int]:
        """Of this face alone in its run: shard, key, index."""
        return self.shard, self.key, self.face

    @property
    def gain(self) -> float:
        """By how much NIQE fell; negative when the face got worse."""
        return self.niqe_in - self.niqe_out


@dataclass
class Scores:
    """A histogram of NIQE with fixed bins of half a point; what lies above goes to the last bin."""

    edges: tuple[float, ...] = tuple(i / 2 for i in range(61))
    counts: list[int] = field(default_factory=lambda: [0] * 60)
    total: float = 0.0

    def add(self, value: float) -> None:
        """Count a finite score."""
        self.total += value
        self.counts[max(0, min(bisect_right(self.edges, value) - 1, len(self.counts) - 1))] += 1

    @property
    def mean(self) -> float | None:
        count = sum(self.counts)
        return self.total / count if count else None


class Extremes:
    """The GALLERY strips with the greatest `measure`, whatever order they come in."""

    def __init__(self, measure: Callable[[Strip], float]) -> None:
        self._measure = measure
        self._heap: list[tuple[float, tuple[str, str, int], Strip]] = []

    def add(self, strip: Strip) -> None:
        heapq.heappush(self._heap, (self._measure(strip), strip.name, strip))
        if len(self._heap) > GALLERY:
            heapq.heappop(self._heap)

    def strips(self) -> list[Strip]:
        """Greatest first."""
        return [entry[-1] for entry in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


@dataclass(frozen=True)
class Rejected:
    """A quarantined photo and why."""

    key: str
    shard: str
    code: str
    message: str


@dataclass
class Facts:
    """Everything the page shows; see `gather`."""

    output: str
    run: Mapping[str, Any]
    units: int = 0
    first_start: str = ""
    last_commit: str = ""
    photos: Counter[str] = field(default_factory=Counter)
    faces: Counter[str] = field(default_factory=Counter)
    faces_per_photo: Counter[int] = field(default_factory=Counter)
    n: Counter[int] = field(default_factory=Counter)
    tau: Counter[int] = field(default_factory=Counter)
    evaluations: int = 0
    before: Scores = field(default_factory=Scores)
    after: Scores = field(default_factory=Scores)
    improved: int = 0
    compared: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)
    worst: Extremes = field(default_factory=lambda: Extremes(lambda strip: strip.niqe_out))
    best: Extremes = field(default_factory=lambda: Extremes(lambda strip: -strip.niqe_out))
    gained: Extremes = field(default_factory=lambda: Extremes(lambda strip: strip.gain))
    lost: Extremes = field(default_factory=lambda: Extremes(lambda strip: -strip.gain))

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Count one manifest row, that is one photo."""
        self.photos[row["status"]] += 1
        if row["status"] == "rejected":
            self.reasons[row["error"]] += 1
            if len(self.rejected) < QUARANTINE_EXAMPLES:
                self.rejected.append(Rejected(row["key"], row["shard"], row["error"], row["message"]))
            return
        self.faces_per_photo[len(row["faces"])] += 1
        for index, face in enumerate(row["faces"]):
            self._add_face(row, index, face)

    def _add_face(self, row: Mapping[str, Any], index: int, face: Mapping[str, Any]) -> None:
        self.faces[face["status"]] += 1
        if face["n"] is not None:
            self.n[face["n"]] += 1
            self.tau[face["tau"]] += 1
        self.evaluations += face["evaluations"]
        niqe_in, niqe_out = face["niqe_in"], face["niqe_out"]
        if niqe_in is None or niqe_out is None or not isfinite(niqe_in) or not isfinite(niqe_out):
            return  # means and histograms of before and after are over the same faces
        self.before.add(niqe_in)
        self.after.add(niqe_out)
        self.compared += 1
        self.improved += niqe_out < niqe_in
        if face["preview"]:
            numbers = face["status"], face["n"], face["tau"], niqe_in, niqe_out
            strip = Strip(row["shard"], row["key"], index, face["preview"], *numbers)
            for gallery in (self.worst, self.best, self.gained, self.lost):
                gallery.add(strip)


def galleries(facts: Facts) -> Iterable[tuple[str, list[Strip]]]:
    """Titled galleries of strips, none shown twice; one gallery when there are few."""
    ordered = {
        "Highest NIQE after restoration": facts.worst.strips(),
        "Lowest NIQE after restoration": facts.best.strips(),
        "NIQE fell most": facts.gained.strips(),
        "NIQE fell least, or rose": facts.lost.strips(),
    }
    every = {strip.name: strip for strips in ordered.values() for strip in strips}
    if len(every) <= 2 * GALLERY:
        if every:
            yield "By NIQE after restoration, highest first", sorted(every.values(), key=lambda strip: -strip.niqe_out)
        return
    shown: set[tuple[str, str, int]] = set()
    for title, strips in ordered.items():
        fresh = [strip for strip in strips if strip.name not in shown]
        shown |= {strip.name for strip in fresh}
        if fresh:
            yield title, fresh
