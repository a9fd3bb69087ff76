"""What can be wrong with an output, and what an operator does about each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pipeline.ledger import COMMITS, FORMAT, CommitRecord, StoredObject, commit_name
from pipeline.units import base_unit, retry_number


@dataclass(frozen=True)
class Finding:
    """Something `verify` holds against an output.

    subject: the object, unit or shard; code: dotted, for programs; message: a line for a person; remedy: what to do.
    """

    subject: str
    code: str
    message: str
    remedy: str


class Remedies:
    """Remedies with the full names of one output, so that they can be followed as they stand.

    A commit record is the one thing that makes a unit done, so deleting it and restoring again does the unit anew,
    under new object names. What the old ones hold is left for `dr2e gc`.
    """

    def __init__(self, url: str, units: Iterable[str] = ()) -> None:
        """units: all that have a record; later attempts at what a unit rejected go with it."""
        self.url = url
        self._attempts: defaultdict[str, set[str]] = defaultdict(set)
        for unit in units:
            if base_unit(unit) != unit:
                self._attempts[base_unit(unit)].add(unit)

    def redo(self, units: Iterable[str], shard: str = "", settings: Mapping[str, Any] | None = None) -> str:
        """Do units anew. shard: the input they came from, settings: those of a later attempt, if known."""
        wrong = set(units)
        anew = {unit for unit in wrong if base_unit(unit) == unit}
        # A later attempt rests on what the earlier ones rejected: were it kept, a photo could be there twice.
        later = {after for unit in wrong for after in self._attempts.get(base_unit(unit), ()) if _follows(after, unit)}
        delete = f"delete {self._records(wrong | later)}"
        if not anew:
            flags = [f"--set {name}={json.dumps(value)}" for name, value in (settings or {}).items()]
            again = " ".join(["dr2e retry", self.url, *flags] if flags else ["dr2e retry"])
            return (
                f"{delete}, and run '{again}' again: it tries what then is in quarantine; then 'dr2e gc' finds what "
                "is left over"
            )
        source = f"the input still has {shard}" if shard else "their input is still there"
        retry = ", then 'dr2e retry' for what it rejects" if wrong | later != anew else ""
        return (
            f"make sure that {source}, {delete}, and run the same 'dr2e restore' again: it does what no "
            f"record names{retry}; then 'dr2e gc' finds what is left over"
        )

    def redo_of(self, record: CommitRecord) -> str:
        """Do the unit of a record anew."""
        return self.redo([record.unit], record.shard, record.settings)

    def replace(self, record: CommitRecord, stored: StoredObject) -> str:
        """Mend one object."""
        return (
            f"if a copy has {stored.bytes} bytes and sha256 {stored.sha256}, put it back as "
            f"{self.url}/{stored.name}; if none has, {self.redo_of(record)}"
        )

    def retry(self, unit: str) -> str:
        """Storage failed, which may pass."""
        return "run 'dr2e verify' again; if it cannot be read then either, restore it from a copy, or " + self.redo(
            [unit]
        )

    def finish(self, units: Iterable[str], shard: str) -> str:
        """Units are not committed. shard: the input they come from."""
        attempts = {attempt for unit in units for attempt in self._attempts.get(unit, ())}
        again = "run the same 'dr2e restore' again: it does what no record names"
        if not attempts:
            return again
        # They are at what the lost records say was rejected, and the units done anew may reject others.
        return (
            f"if there is a copy of the lost record, put it back; if there is none, make sure that the input still has "
            f"{shard}, delete {self._records(attempts)}, and {again}, then 'dr2e retry' for what it rejects; then "
            "'dr2e gc' finds what is left over"
        )

    def begin(self) -> str:
        """Nothing is committed."""
        return (
            "if the run has just begun, run 'dr2e verify' again later; if it has not, look for the records that should "
            f"be in {self.url}/{COMMITS}/: put them back if there is a copy, or run the same 'dr2e restore' again"
        )

    def unreadable(self, unit: str, message: str) -> str:
        """A commit record makes no sense."""
        if FORMAT in message and "has the format" in message:
            return "nothing is known to be damaged: verify with the release of dr2e that wrote this output"
        return self.redo([unit])

    def _records(self, units: Iterable[str]) -> str:
        return " and ".join(f"{self.url}/{commit_name(unit)}" for unit in sorted(units))

    def one_cut(self, patterns: Iterable[str], shard: str) -> str:
        """A shard was cut into units in two ways."""
        cuts = sorted(patterns)
        names = [commit_name(pattern) for pattern in cuts]
        if any(fnmatchcase(unit, pattern) for unit in self._attempts for pattern in cuts):
            names += [commit_name(f"{pattern}.retry*") for pattern in cuts]
        records = " and ".join(f"{self.url}/{name}" for name in names)
        return (
            f"make sure that the input still has {shard}, delete {records}, and run the same 'dr2e restore' again: "
            "it cuts the shard as run.json says"
        )


def _follows(attempt: str, unit: str) -> bool:
    """Whether `attempt` is a later one at photos of the same unit."""
    return retry_number(attempt) > retry_number(unit)
