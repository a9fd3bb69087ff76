"""The verification of a whole output, or of a sample of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.ledger import COMMITS, RUN, unit_of_commit
from pipeline.processes import processors, spread
from pipeline.storage import Location, StorageError
from pipeline.units import base_unit, parse_unit_id
from pipeline.verification.findings import Finding, Remedies
from pipeline.verification.journal import Journal
from pipeline.verification.keys import Keys, shard_of
from pipeline.verification.reader import UnitFound, UnitReader, UnitTask
from pipeline.verification.record import SUFFIXES
from pipeline.verification.sample import Sample

READERS = 16
"""Units a process reads at once: object stores answer slowly but in parallel, and hashing needs no lock."""

_MANY = 300  # units on S3, of 0.8 MB, that two processes read as fast as one does, their start included
_GIVE_UP = 3 * READERS  # units in a row that storage refused to read: not they are broken, it is


@dataclass(frozen=True)
class Checked:
    """Progress. unit: just dealt with; done: of how many `units`; bytes: read for it."""

    unit: str
    done: int
    units: int
    bytes: int


@dataclass
class Verification:
    """units: committed; read: of them, now; read_before: by the journal, well and unchanged since; bytes: read."""

    units: int = 0
    read: int = 0
    read_before: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify(
    location: Location,
    sample: Sample | None = None,
    journal: Journal | None = None,
    on_unit: Callable[[Checked], None] | None = None,
    processes: int | None = None,
) -> Verification:
    """Hold the output at `location` against its commit records, and read its units back.

    For every unit: its record can be read and names objects of its own, each there and as long as committed; no
    unit of a shard is missing. For the units that are read: every byte is as committed, the manifest fits the
    record, the tars end cleanly and hold what the manifest names, as it describes it, and no photo is there twice.
    A run without any unit is a finding as well.

    sample: read only these units back. journal: leave out the tars of units that were read before, and note the
    others. on_unit: called after each unit. processes: that read; None: as many as cores, and this one alone where
    there is little to read. Writes nothing to the output, and may be called during a run.

    Memory grows with the number of objects (their names and sizes), not with their bytes.
    Raises StorageError when storage cannot be listed or goes on refusing (one object it refuses is a finding), and
    ProcessError when a process that reads is killed.
    """
    return _Verifier(location, sample, journal, processes).run(on_unit)


class _Verifier:
    def __init__(
        self, location: Location, sample: Sample | None, journal: Journal | None, processes: int | None
    ) -> None:
        self.location, self.journal = location, journal
        # Records before objects: what a record of this listing names is in the later one.
        names = (unit_of_commit(entry.name) for entry in location.entries(COMMITS))
        self.units = sorted(name for name in names if name is not None)
        self.remedies = Remedies(location.url, self.units)
        self.objects, self.sizes = _sizes(location)
        self.chosen = set(self.units) if sample is None else sample.draw(self.units)
        self.processes = processes or (processors() if len(self.units) >= _MANY else 1)

    def run(self, on_unit: Callable[[Checked], None] | None) -> Verification:
        found = Verification(units=len(self.units))
        keys = Keys(self.chosen, self.remedies)
        repeated: list[Finding] = []
        shards: dict[str, str] = {}
        gaps, refused = _gaps(self.units), 0
        for done, unit in enumerate(self._read(), 1):
            found.findings += unit.findings
            found.bytes += unit.bytes
            found.read += unit.was_read
            found.read_before += unit.was_read_before
            if unit.shard and (shard := shard_of(unit.name)) in gaps:
                shards[shard] = unit.shard
            if unit.name in self.chosen:
                repeated += keys.add(unit.name, unit.shard, unit.photos)
            if self.journal is not None and unit.was_read and not unit.failed:
                self.journal.note(unit.name, unit.attempt, unit.record, unit.findings)
            refused = refused + 1 if unit.failed else 0
            if refused == _GIVE_UP:
                raise StorageError(f"{refused} units in a row could not be read; the last: {unit.findings[-1].message}")
            if on_unit is not None:
                on_unit(Checked(unit.name, done, len(self.units), unit.bytes))
        found.findings += [
            finding for shard, parts in gaps.items() for finding in self._gap(shard, shards.get(shard, shard), parts)
        ]
        found.findings += repeated
        if not self.units and self.location.exists(RUN):
            message = "a run was started here, and nothing is committed"
            if self.objects:
                message += f"; {self.objects:,} objects are there that no record names"
            found.findings.append(Finding(COMMITS, "output.empty", message, self.remedies.begin()))
        return found

    def _tasks(self) -> Iterator[UnitTask]:
        for name in self.units:
            noted = self.journal.digest_of(name) if self.journal is not None else None
            yield UnitTask(name, self.sizes.pop(name, {}), name in self.chosen, noted)

    def _read(self) -> Iterator[UnitFound]:
        return spread(UnitReader(self.location, self.remedies), self._tasks(), self.processes, READERS)

    def _gap(self, shard: str, name: str, parts: Mapping[int, set[int]]) -> Iterator[Finding]:
        """What a shard lacks. shard: its id; name: as the input calls it; parts: those done, by their number in all."""
        if len(parts) > 1:
            cuts = " and as ".join(map(str, sorted(parts)))
            patterns = [f"{shard}-*-of-{count:04d}" for count in parts]
            remedy = self.remedies.one_cut(patterns, name)
            yield Finding(name, "unit.overlap", f"committed as {cuts} units, so photos are there twice", remedy)
            return
        for count, done in parts.items():
            missing = sorted(set(range(count)) - done)
            units = [f"{shard}-{part:04d}-of-{count:04d}" for part in missing]
            message = f"parts {missing} of {count} are not committed"
            yield Finding(name, "unit.missing", message, self.remedies.finish(units, name))


def _sizes(location: Location) -> tuple[int, dict[str, dict[str, int]]]:
    """How many objects there are, and their bytes by name, by the unit that their names say (KIND/UNIT-ATTEMPT.tar)."""
    count, sizes = 0, defaultdict[str, dict[str, int]](dict)
    for kind in SUFFIXES:
        for entry in location.entries(kind):
            count += 1
            sizes[entry.name.removeprefix(f"{kind}/").rpartition("-")[0]][entry.name] = entry.size
    return count, sizes


def _gaps(units: Sequence[str]) -> dict[str, dict[int, set[int]]]:
    """The shards that are not committed once and wholly: by shard id and number of parts, the parts that are."""
    parts: defaultdict[str, defaultdict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for unit in units:
        if parsed := parse_unit_id(base_unit(unit)):
            shard, part, count = parsed
            done = parts[shard][count]
            if base_unit(unit) == unit:  # a later attempt at what it rejected does not make a unit done
                done.add(part)
    return {
        shard: dict(cuts)
        for shard, cuts in parts.items()
        if len(cuts) > 1 or any(len(done) < count for count, done in cuts.items())
    }
