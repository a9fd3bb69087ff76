"""The run that nothing disturbs, which all others are held against: it must itself have done what the input demands."""

from __future__ import annotations

from faults.checker import Objects
from faults.collection import FATES
from faults.schedule import Schedule
from faults.site import Site
from faults.storm import Storm


def calm(site: Site) -> Objects:
    """Its objects. Raises AssertionError when it failed, or when other photos than those were restored or rejected."""
    storm = Storm(site, Schedule(-1, (), (), {}))
    outcome = storm.run()
    assert outcome.passed, f"the run without faults failed: {outcome.reasons}\n{outcome.log}"
    assert outcome.verdict.fates == FATES, f"the run without faults has {dict(outcome.verdict.fates)}\n{outcome.log}"
    return site.objects(storm.name)
