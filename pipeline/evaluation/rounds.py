"""Passes over the units that are not stored yet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TextIO

from ray.exceptions import RayError

from pipeline.evaluation.graph import evaluation
from pipeline.evaluation.measure import Measure
from pipeline.progress import Progress
from pipeline.resources import sizes
from pipeline.rounds import RunFailed, gist
from pipeline.run import Run
from pipeline.session import session
from pipeline.storage import StorageError
from pipeline.units import Unit

log = logging.getLogger(__name__)


def run_rounds(run: Run, units: Sequence[Unit], measure: Measure, address: str | None, to: TextIO | None) -> None:
    """Evaluate until every unit is stored. Raises RunFailed, ClusterError, ConfigError."""
    left = {unit.id: unit for unit in units}
    reasons: dict[str, str] = {}
    with Progress(round(sum(measure.shares.values())), to) as progress, session(address, run.config.resources) as nodes:
        widths = sizes(run.config.resources, nodes)
        number = idle = 0
        while left and idle < run.config.resources.rounds:
            number, before = number + 1, len(left)
            progress.phase("evaluating" if number == 1 else f"round {number}")
            try:
                for outcome in evaluation(run, list(left.values()), measure, widths):
                    if outcome.failure:
                        reasons[outcome.unit] = outcome.failure
                        log.warning("round %d did not finish %s: %s", number, outcome.unit, outcome.failure)
                    else:
                        left.pop(outcome.unit)
                        progress.add(outcome.photos, outcome.faces, outcome.rejected, outcome.share)
            except (RayError, StorageError) as error:
                raise RunFailed(gist(error)) from error
            idle = 0 if len(left) < before else idle + 1
    if not left:
        return
    unit = next(iter(left))
    raise RunFailed(f"{len(left)} units could not be finished; {unit}: {reasons.get(unit, 'its workers died')}")
