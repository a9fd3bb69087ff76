"""Real runs on a real cluster against a real S3 server, under a few seeded schedules; `make faults` has a hundred."""

from __future__ import annotations

import pytest

from faults.calm import calm
from faults.collection import SETTINGS, shards
from faults.schedule import VICTIMS, schedule
from faults.site import Site
from faults.storm import Storm

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; Ray starts slowly on a busy one


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Site(tmp_path_factory.mktemp("storms"), shards(), SETTINGS) as site:
        yield site


@pytest.fixture(scope="module")
def quiet(site):
    """The objects of a run that nothing disturbs."""
    return calm(site)


def test_a_schedule_follows_from_its_seed_and_every_victim_has_its_turn():
    assert schedule(7) == schedule(7) != schedule(16)
    assert {schedule(seed).strikes[0].victim for seed in range(9)} == set(VICTIMS)


@pytest.mark.parametrize("seed", [0, pytest.param(5, marks=pytest.mark.slow)])
def test_no_storm_loses_or_doubles_a_photo(seed, site, quiet):
    outcome = Storm(site, schedule(seed)).run(quiet)
    assert outcome.passed, f"{outcome.hits} {outcome.reasons}\n{outcome.log}"
    assert outcome.missed == [], outcome.log
