"""What a verification has read so far, in a local file, so that an interrupted one goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.verification.findings import Finding

FORMAT = "dr2e.verify/1"


class JournalError(ValueError):
    """A file cannot be the journal of this verification. One line with the remedy."""


class Journal:
    """JSON lines: the output's URL, then a line per unit read back. Use it as a context manager.

    A unit that was found well counts as read as long as its commit record stays the same to the byte. One with
    findings is read again: somebody may have mended it, and there should be few.

    path: created unless it exists. url: of the output. A line that was torn by a kill is dropped.
    Raises JournalError when the file is another output's, no journal, in use, or cannot be written.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._well: dict[str, bytes] = {}
        try:
            self._file = open(path, "a+b")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise JournalError(f"cannot write the journal {path}: {error.strerror}") from None
        try:
            self._open(url)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()

    def digest_of(self, unit: str) -> bytes | None:
        """The digest of the commit record with which a unit was read back and well; None where it was not."""
        return self._well.get(unit)

    def note(self, unit: str, attempt: str, record: bytes, findings: Sequence[Finding]) -> None:
        """Note that a unit was read back, and what was found. Written through before this returns.

        record: the digest of its commit record.
        """
        line = {
            "unit": unit,
            "attempt": attempt,
            "record": record.hex(),
            "findings": [asdict(finding) for finding in findings],
        }
        self._write(line)

    def _open(self, url: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"the journal {self.path} is in use by another 'dr2e verify'") from None
        except OSError:  # a file system without locks
            pass
        head = {"format": FORMAT, "output": url}
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n") and (json.dumps(head).encode() + b"\n").startswith(first):
            self._file.truncate(0)  # new, or killed at once
            self._write(head)
            return
        found = _parsed(first)
        if found.get("format") != FORMAT:
            raise JournalError(f"{self.path} is no journal of this release of 'dr2e verify'; name another file")
        if found.get("output") != url:
            raise JournalError(f"the journal {self.path} is that of {found.get('output')}; name another file")
        end = len(first)
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                break
            end += len(line)
            self._believe(_parsed(line))

    def _believe(self, line: dict[str, Any]) -> None:
        try:
            unit, record, findings = line["unit"], bytes.fromhex(line["record"]), line["findings"]
        except (KeyError, ValueError, TypeError):
            return  # damaged: the unit is read again
        self._well.pop(unit, None)
        if findings == []:
            self._well[unit] = record

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise JournalError(f"cannot write the journal {self.path}: {error.strerror}") from None


def digest(record: bytes) -> bytes:
    """Of the bytes of a commit record, as the journal notes it."""
    return hashlib.sha256(record).digest()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
