import math
from pathlib import Path

import numpy as np
import pytest
import torch

from operators.quality.selection import REACH, Candidate, Chain, Pair, Policy, describe
from operators.training.weights import WeightsError, save_weights

PAIRS: tuple[Pair, ...] = ((1, 4), (2, 8), (4, 28))


def policy(**changes: object) -> Policy:
    """Gain of (1, 4) is 0; of (2, 8) it grows with the NIQE of the probe, and of (4, 28) faster, from further below."""
    weights = np.zeros((3, 7))
    weights[1, 2], weights[2, 2] = 1.0, 3.0  # of z for the probe's first tau
    weights[2, 0] = -2.0
    known = {
        "natural": 3.0,
        "faithful": 0.8,
        "probe": (2, 4),
        "pairs": PAIRS,
        "centre": np.full(3, 5.0),
        "scale": np.ones(3),
        "weights": weights,
    }
    return Policy(**{**known, **changes})  # type: ignore[arg-type]


def probe(niqe: float, *, at_four: float = 4.0) -> list[Candidate]:
    return [Candidate(1, 4, at_four, 0.99), Candidate(1, 2, niqe, 0.99)]


def chosen(found: list[Candidate], **changes: object) -> Pair | None:
    candidate = policy(**changes).choose(7.0, found).candidate
    return None if candidate is None else (candidate.n, candidate.tau)


@pytest.mark.parametrize("niqe", [1.0, 3.0, math.inf, math.nan])
def test_a_good_or_unmeasurable_face_is_kept_without_a_chain(niqe: float) -> None:
    assert policy().next_chain(niqe, []) is None
    choice = policy().choose(niqe, [])
    assert choice.candidate is None and choice.reason


def test_the_probe_runs_first_and_says_which_chain_is_next() -> None:
    assert policy().next_chain(7.0, []) == Chain(1, 4, (2, 4))
    assert policy().next_chain(7.0, probe(5.5)) == Chain(2, 18, (8,))
    assert policy().next_chain(7.0, probe(6.5)) == Chain(4, 48, (28,))


def test_nothing_more_runs_when_the_probe_holds_the_best_pair_or_the_chain_is_done() -> None:
    assert policy().next_chain(7.0, probe(4.0)) is None
    assert policy().next_chain(7.0, [*probe(6.5), Candidate(4, 28, 3.0, 0.9)]) is None


def test_the_pair_that_promises_most_is_taken_whatever_its_niqe() -> None:
    assert chosen(probe(4.0)) == (1, 4)
    assert chosen([*probe(6.5), Candidate(4, 28, 9.0, 0.9)]) == (4, 28)


def test_a_candidate_that_lost_the_person_gives_way() -> None:
    found = [*probe(6.5), Candidate(4, 28, 3.0, 0.79)]
    assert chosen(found) == (1, 4)
    assert chosen(found, faithful=0.7) == (4, 28)
    assert chosen([Candidate(4, 28, 3.0, 0.5)]) == (4, 28)  # all there is


@pytest.mark.parametrize("niqe", [math.inf, math.nan])
def test_a_candidate_that_cannot_be_measured_never_wins(niqe: float) -> None:
    assert chosen([*probe(6.5), Candidate(4, 28, niqe, 0.9)]) == (1, 4)
    assert chosen([Candidate(1, 4, niqe, 0.9), Candidate(1, 2, niqe, 0.9)]) is None


def test_a_probe_that_cannot_be_measured_says_nothing_and_breaks_nothing() -> None:
    assert policy().next_chain(7.0, probe(math.inf)) == policy().next_chain(7.0, probe(5.0))
    assert policy().gains(7.0, probe(math.nan)) == policy().gains(7.0, probe(5.0))


def test_scores_beyond_reach_count_as_reach() -> None:
    centre, scale = np.array([5.0]), np.array([2.0])
    described = describe(np.array([[6.0], [1e9], [-1e9], [np.inf]]), centre, scale)
    expected = [[1, 0.5, 0.25], [1, REACH, REACH**2], [1, -REACH, REACH**2], [1, 0, 0]]
    assert np.allclose(described, expected)


def test_a_tau_the_prior_does_not_reach_counts_as_the_nearest_pair() -> None:
    assert chosen([*probe(6.5), Candidate(4, 20, 3.0, 0.9)]) == (4, 20)


def test_order_of_candidates_does_not_matter() -> None:
    found = [*probe(6.5), Candidate(4, 28, 4.0, 0.9)]
    assert policy().choose(7.0, found) == policy().choose(7.0, found[::-1])


def test_a_policy_is_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    policy().save(path, {"name": "p"})
    read = Policy.load(path)
    assert (read.natural, read.faithful, read.probe, read.pairs) == (3.0, 0.8, (2, 4), PAIRS)
    assert np.array_equal(read.weights, policy().weights) and len(read.fingerprint) == 64


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    save_weights(path, {"centre": torch.zeros(3)}, {"kind": "policy", "natural": 1.0})
    with pytest.raises(WeightsError, match=r"policy\.safetensors is not a usable policy.*fit-selection"):
        Policy.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe": (2,)}, "not a policy"),
        ({"pairs": ((1, 4), (0, 8), (4, 28))}, "N >= 1"),
        ({"pairs": ((1, 4), (2, 8), (4, 128))}, "steps 0 .. 99"),
        ({"scale": np.array([1.0, 0.0, 1.0])}, "a scale above 0"),
        ({"natural": math.nan}, "finite numbers"),
        ({"weights": np.full((3, 7), np.inf)}, "finite numbers"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy(**changes)


def test_a_policy_that_keeps_nothing_is_saved_as_such(tmp_path: Path) -> None:
    policy(natural=-math.inf).save(tmp_path / "p.safetensors", {})
    assert Policy.load(tmp_path / "p.safetensors").next_chain(-3.0, []) == Chain(1, 4, (2, 4))


def test_the_built_in_policy_loads_and_its_pairs_are_apart() -> None:
    built_in = Policy.load()
    assert len(set(built_in.pairs)) == len(built_in.pairs)
    assert built_in.natural > 0 and 0 < built_in.faithful < 1
    assert np.isfinite(built_in.weights).all()
