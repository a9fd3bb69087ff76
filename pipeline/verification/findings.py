"""What can be wrong with an output, and what an operator does about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.ledger import FORMAT, CommitRecord, StoredObject, commit_name


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

    def __init__(self, url: str) -> None:
        self.url = url

    def redo(self, units: Iterable[str], shard: str = "") -> str:
        """Do units anew. shard: the input they came from, if known."""
        records = " and ".join(f"{self.url}/{commit_name(unit)}" for unit in sorted(units))
        source = f"the input still has {shard}" if shard else "their input is still there"
        return (
            f"make sure that {source}, delete {records}, and run the same 'dr2e restore' again: it does what no "
            "record names; then 'dr2e gc' finds what is left over"
        )

    def replace(self, record: CommitRecord, stored: StoredObject) -> str:
        """Mend one object."""
        return (
            f"if a copy has {stored.bytes} bytes and sha256 {stored.sha256}, put it back as "
            f"{self.url}/{stored.name}; if none has, {self.redo([record.unit], record.shard)}"
        )

    def retry(self, unit: str) -> str:
        """Storage failed, which may pass."""
        return "run 'dr2e verify' again; if it cannot be read then either, restore it from a copy, or " + self.redo(
            [unit]
        )

    def finish(self) -> str:
        """A unit was never committed."""
        return "run the same 'dr2e restore' again: it does what no record names"

    def unreadable(self, unit: str, message: str) -> str:
        """A commit record makes no sense."""
        if FORMAT in message and "has the format" in message:
            return "nothing is known to be damaged: verify with the release of dr2e that wrote this output"
        return self.redo([unit])

    def one_cut(self, patterns: Iterable[str], shard: str) -> str:
        """A shard was cut into units in two ways."""
        records = " and ".join(f"{self.url}/{commit_name(pattern)}" for pattern in sorted(patterns))
        return (
            f"make sure that the input still has {shard}, delete {records}, and run the same 'dr2e restore' again: "
            "it cuts the shard as run.json says"
        )
