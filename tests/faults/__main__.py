"""`make faults`: many seeded fault schedules, one after the other, and their table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from faults.checker import Objects
from faults.collection import SETTINGS, shards
from faults.mutations import EXPOSED_BY, MUTATIONS
from faults.sabotage import sabotaged
from faults.schedule import Schedule, schedule
from faults.storm import Site, Storm
from faults.table import page, row, summary


def main() -> int:
    """0 when every schedule passed."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--schedules", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--mutants", action="store_true", help="also run commits that are wrong, which must be caught")
    parser.add_argument("--out", type=Path, help="write the table here, as Markdown")
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="dr2e-faults-") as folder, Site(Path(folder), shards(), SETTINGS) as site:
        calm = Storm(site, Schedule(-1, (), (), {}))
        if not calm.run().passed:
            print(f"the run without faults failed:\n{calm.outcome.verdict}\n{calm.outcome.log}", file=sys.stderr)
            return 1
        quiet = site.objects(calm.name)
        for seed in range(options.first, options.first + options.schedules):
            outcome = Storm(site, schedule(seed)).run(quiet)
            outcomes.append(outcome)
            print(" | ".join(row(outcome)), flush=True)
            if not outcome.passed:
                print(outcome.log[-5000:], flush=True)
            if options.out:
                options.out.write_text(page(outcomes))
        uncaught = [name for name in MUTATIONS if options.mutants and not caught(site, name, quiet)]
    print(summary(outcomes))
    return 0 if all(outcome.passed for outcome in outcomes) and not uncaught else 1


def caught(site: Site, name: str, quiet: Objects) -> bool:
    """Whether a run with a wrong commit is told from a right one."""
    tree = sabotaged(site.folder / f"tree-{site.count}", [MUTATIONS[name]])
    outcome = Storm(site, EXPOSED_BY[name], tree, most_drivers=2).run(quiet)
    how = "; ".join([str(outcome.verdict), *outcome.broken])
    print(f"{'NOT CAUGHT' if outcome.passed else 'caught'}: {name}: {how}, exit {outcome.code}", flush=True)
    return not outcome.passed


if __name__ == "__main__":
    sys.exit(main())
