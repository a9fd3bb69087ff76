"""What a run does, pass by pass: as a rule one; two where near-duplicates are left out."""

from __future__ import annotations

from typing import TextIO

from pipeline.ledger import LedgerError
from pipeline.progress import Tally
from pipeline.rounds import RunFailed, run_rounds
from pipeline.run import Run
from pipeline.session import session
from pipeline.storage import StorageError
from pipeline.work import WorkOnUnits


def run_passes(run: Run, work: WorkOnUnits, address: str | None, to: TextIO | None, tally: Tally | None = None) -> None:
    """Do `work` until nothing of it is left. tally: to count in what is committed. Raises RunFailed, ClusterError,
    ConfigError."""
    if run.config.pairs is None or run.config.pairs.gate.duplicates is None:
        run_rounds(run, work, address, to, tally)
        return
    from pipeline.pairs.search import Search
    from pipeline.pairs.verdicts import Judged

    search = Search(run, work)
    with session(address, run.config.resources):  # one Ray for both passes
        if not search.work.left().complete:
            run_rounds(search.run, search.work, address, to)
        try:
            search.decide()
            run_rounds(run, Judged(search), address, to, tally)
        except (StorageError, LedgerError) as error:
            raise RunFailed(f"{error}; run it again to go on") from error
