import math

import pytest

from operators.quality.selection import Candidate, Chain, Policy

GENTLE, STRONG = Chain(2, 20, (4, 12)), Chain(4, 36, (16, 28))
POLICY = Policy(natural=3.0, price=20.0, enough=3.0, chains=(GENTLE, STRONG))


def candidates(chain: Chain, *niqe: float) -> list[Candidate]:
    """Fidelity falls with N and tau, as it does."""
    return [
        Candidate(chain.n, tau, score, fidelity=1 - chain.n / 100 - tau / 1000)
        for tau, score in zip(chain.taus, niqe, strict=True)
    ]


def chosen(policy: Policy, found: list[Candidate]) -> tuple[int, int] | None:
    candidate = policy.choose(7.0, found).candidate
    return None if candidate is None else (candidate.n, candidate.tau)


@pytest.mark.parametrize("niqe", [1.0, 3.0, math.inf, math.nan])
def test_a_good_or_unmeasurable_face_is_kept_without_a_chain(niqe: float) -> None:
    assert POLICY.next_chain(niqe, []) is None
    choice = POLICY.choose(niqe, [])
    assert choice.candidate is None and choice.reason


def test_the_gentle_chain_runs_first_and_the_strong_one_only_when_it_must() -> None:
    assert POLICY.next_chain(6.0, []) == GENTLE
    assert POLICY.next_chain(6.0, candidates(GENTLE, 4.0, 2.3)) is None
    unfinished = candidates(GENTLE, 6.0, 2.9)  # natural, but not at this price
    assert POLICY.next_chain(6.0, unfinished) == STRONG
    assert POLICY.next_chain(6.0, unfinished + candidates(STRONG, 4.0, 4.5)) is None


def test_the_lowest_niqe_does_not_win_when_it_costs_the_person() -> None:
    found = candidates(GENTLE, 5.0, 2.9) + candidates(STRONG, 2.2, 2.1)  # J: 5.48, 3.54, 3.32, 3.46
    assert chosen(POLICY, found) == (4, 16)
    assert chosen(Policy(price=0.0), found) == (4, 28)
    assert chosen(Policy(price=100.0), found) == (2, 12)


def test_equal_candidates_give_way_to_the_gentler() -> None:
    twins = [Candidate(4, 8, 3.0, 0.9), Candidate(2, 8, 3.0, 0.9), Candidate(2, 4, 3.0, 0.9)]
    assert chosen(POLICY, twins) == (2, 4)


def test_a_candidate_that_cannot_be_measured_never_wins() -> None:
    assert chosen(POLICY, candidates(GENTLE, math.inf, 5.0) + candidates(STRONG, math.inf, 5.2)) == (2, 12)


def test_when_none_can_be_measured_the_face_is_kept() -> None:
    assert chosen(POLICY, candidates(GENTLE, math.inf, math.inf)) is None


def test_order_of_candidates_does_not_matter() -> None:
    found = candidates(GENTLE, 6.0, 4.4) + candidates(STRONG, 4.0, 4.2)
    assert POLICY.choose(7.0, found) == POLICY.choose(7.0, found[::-1])


def test_the_built_in_chains_go_from_gentle_to_strong_with_taus_on_the_way() -> None:
    chains = Policy().chains
    assert [chain.n for chain in chains] == sorted({chain.n for chain in chains})
    assert all(0 <= tau <= chain.omega for chain in chains for tau in chain.taus)
