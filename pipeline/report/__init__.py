"""The page a person looks at: what a run did, with the faces to judge it by."""

from __future__ import annotations

from pipeline.ledger import REPORT
from pipeline.output import Output
from pipeline.report.gather import gather
from pipeline.report.page import render


def write_report(output: Output) -> str:
    """Write report.html into an output, over an older one, and return its URL.

    The page needs no script, no network and no second file, and stays below a few megabytes whatever the size
    of the run. It may be written at any time, also during a run. Raises StorageError or LedgerError.
    """
    output.location.put(REPORT, render(gather(output)).encode())
    return f"{output.location.url}/{REPORT}"
