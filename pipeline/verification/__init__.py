"""Reading an output back: whether everything that was committed is there, whole, and there once.

    listing ─> each record (cheap: readable, its objects there and of the right size)
                 └─ if it is to be read: manifest ─> shard ─> rejects, each once, from front to back
                                                         └─ findings, and a line in the journal

Nothing here writes to an output.
"""

from __future__ import annotations

from pipeline.verification.findings import Finding
from pipeline.verification.journal import Journal, JournalError
from pipeline.verification.sample import Sample
from pipeline.verification.whole import READERS, Checked, Verification, verify

__all__ = ["READERS", "Checked", "Finding", "Journal", "JournalError", "Sample", "Verification", "verify"]
