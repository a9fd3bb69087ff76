"""Everything about one unit: its record, the objects this names, and, where it is asked for, every byte of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.ledger import CommitRecord, LedgerError, commit_name
from pipeline.storage import Location, StorageError
from pipeline.verification.findings import Finding, Remedies
from pipeline.verification.journal import digest
from pipeline.verification.record import belongs, missing_objects
from pipeline.verification.unit import check_unit


@dataclass(frozen=True)
class UnitTask:
    """A unit to look at. sizes: bytes of its objects, whatever the attempt, by name, from a listing; chosen: to read
    it back; noted: digest of the record that it was read back well with before, if it was."""

    name: str
    sizes: Mapping[str, int]
    chosen: bool
    noted: bytes | None = None


@dataclass
class UnitFound:
    """What became of a unit. shard, attempt: by its record, whose digest is `record`; was_read: back, now, or
    was_read_before by the journal; photos: (key, whether it has a result); bytes: read; failed: storage refused."""

    name: str
    shard: str = ""
    attempt: str = ""
    record: bytes = b""
    was_read: bool = False
    was_read_before: bool = False
    findings: list[Finding] = field(default_factory=list)
    photos: list[tuple[str, bool]] = field(default_factory=list)
    bytes: int = 0
    failed: bool = False


class UnitReader:
    """Reads units of an output; may be called from several threads, and travels to other processes."""

    def __init__(self, location: Location, remedies: Remedies) -> None:
        self.location, self.remedies = location, remedies

    def __call__(self, task: UnitTask) -> UnitFound:
        """Never raises on what is wrong with a unit: that is a finding."""
        unit = UnitFound(task.name)
        try:
            self._check(task, unit)
        except StorageError as error:
            unit.failed = True
            remedy = self.remedies.retry(task.name)
            unit.findings.append(Finding(commit_name(task.name), "commit.unreadable", str(error), remedy))
        except LedgerError as error:
            remedy = self.remedies.unreadable(task.name, str(error))
            unit.findings.append(Finding(commit_name(task.name), "commit.unreadable", str(error), remedy))
        return unit

    def _check(self, task: UnitTask, unit: UnitFound) -> None:
        data = self.location.read_or_none(commit_name(task.name))
        if data is None:
            raise LedgerError(
                f"{commit_name(task.name)} was listed and is not there any more; was it deleted just now?"
            )
        record = CommitRecord.from_json(data, commit_name(task.name))
        unit.shard, unit.attempt, unit.record = record.shard, record.attempt, digest(data)
        unit.findings += belongs(record, task.name, self.remedies)
        if unit.findings:
            return
        unit.findings += missing_objects(self.location, record, task.sizes, self.remedies)
        if unit.findings or not task.chosen:
            return
        unit.was_read_before = task.noted == unit.record
        unit.was_read = not unit.was_read_before
        check = check_unit(self.location, record, self.remedies, manifest_only=unit.was_read_before)
        unit.findings += check.findings
        unit.photos, unit.bytes, unit.failed = check.photos, check.bytes, check.failed
