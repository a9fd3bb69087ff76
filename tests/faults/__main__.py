"""`make faults`: many seeded fault schedules, and their table."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from faults.crew import Job, SiteFailed, outcomes
from faults.mutations import EXPOSED_BY
from faults.outcome import Outcome
from faults.table import mutant, never_hit, page, row, summary


def main() -> int:
    """0 when every schedule passed, every kind of victim was hit, and every wrong commit was caught."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--schedules", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--mutants", action="store_true", help="also run commits that are wrong, which must be caught")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time, each on a site of its own (default 1)")
    parser.add_argument("--out", type=Path, help="write the table here, as Markdown")
    options = parser.parse_args()
    jobs: list[Job] = [
        *range(options.first, options.first + options.schedules),
        *(EXPOSED_BY if options.mutants else ()),
    ]
    found: list[Outcome] = []
    began = time.monotonic()
    try:
        for outcome in outcomes(jobs, max(1, min(options.jobs, len(jobs)))):
            found.append(outcome)
            told(outcome)
            progress(len(found), len(jobs), time.monotonic() - began)
            if options.out:
                options.out.write_text(page(found))
    except SiteFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(summary(found))
    return 0 if all(map(right, found)) and not never_hit(found) else 1


def right(outcome: Outcome) -> bool:
    """Whether it is what it should be: a wrong commit should be caught."""
    return outcome.caught if outcome.mutation else outcome.passed


def told(outcome: Outcome) -> None:
    """A row, and the log of what went wrong."""
    print(mutant(outcome) if outcome.mutation else " | ".join(row(outcome)), flush=True)
    if not right(outcome):
        print(outcome.log[-5000:], flush=True)


def progress(done: int, of: int, seconds: float) -> None:
    left = seconds / done * (of - done)
    rate = f"{60 * done / seconds:.1f} a minute"
    print(
        f"{done} of {of} done, {rate}, {seconds / 60:.0f} min so far, {left / 60:.0f} min left",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
