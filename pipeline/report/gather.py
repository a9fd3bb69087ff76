"""From an output to the facts of its report; reads commit records and manifests, nothing else."""

from __future__ import annotations

import pyarrow as pa

from pipeline.ledger import CommitRecord
from pipeline.output import Output
from pipeline.report.facts import Facts

_COLUMNS = ("key", "shard", "status", "error", "message", "faces")


def gather(output: Output) -> Facts:
    """One pass over everything committed. The memory it takes does not grow with the number of photos.

    Raises StorageError when the output cannot be read, LedgerError when a record of it is damaged.
    """
    facts = Facts(output.location.url, output.run() or {})
    for history in output.histories():
        facts.units += 1
        for record, rows in output.rows(history, _COLUMNS):
            _add_rows(facts, record, rows)
    return facts


def _add_rows(facts: Facts, record: CommitRecord, rows: pa.Table) -> None:
    facts.first_start = min(facts.first_start or record.started, record.started)
    facts.last_commit = max(facts.last_commit, record.ended)
    facts.seconds.update(record.seconds)
    for batch in rows.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            facts.add_row(row)
