import pytest

from jobs.fit_selection import GENERATIVE, Quality, Trial, argmin_niqe, fit, follow, oracle, table
from operators.quality.selection import Candidate, Policy

COSTS = {1: 10, 4: 20, 8: 30}


def cost(chain: object) -> int:
    return COSTS[chain.n]  # type: ignore[attr-defined]


def trial(level: str, niqe: float) -> Trial:
    """A face whose NIQE falls with N and tau while its likeness falls too: the lowest NIQE is the worst choice."""
    candidates = {}
    for chain in (*Policy().chains, GENERATIVE):
        pairs = []
        for tau in chain.taus:
            lost = chain.n / 20 + tau / 100
            found = Candidate(chain.n, tau, niqe=6 - 4 * lost, fidelity=1 - lost)
            pairs.append((found, Quality(psnr=30 - 10 * lost, ssim=0.9 - lost / 2)))
        candidates[chain] = pairs
    return Trial(level, niqe, Quality(25.0, 0.7), candidates)


TRIALS = [trial("clean", 2.0), trial("clean", 2.4), trial("mild 4", 5.0), trial("severe 8", 7.0)]


def test_following_the_policy_counts_only_the_chains_it_asked_for() -> None:
    gentle, strong = Policy().chains
    satisfied = follow(Policy(natural=1.0, price=0.0, enough=5.5), trial("mild 4", 6.0), cost)
    assert satisfied.evaluations == cost(gentle)
    unsatisfied = follow(Policy(natural=1.0, enough=1.0), trial("mild 4", 6.0), cost)
    assert unsatisfied.evaluations == cost(gentle) + cost(strong)
    kept = follow(Policy(natural=6.5), trial("mild 4", 6.0), cost)
    assert (kept.kept, kept.evaluations, kept.quality) == (True, 0, Quality(25.0, 0.7))


def test_fit_keeps_clean_faces_and_takes_the_price_that_keeps_the_likeness() -> None:
    fitted = fit(TRIALS, cost)
    assert fitted.natural == pytest.approx(2.38)
    eager = follow(Policy(natural=fitted.natural, price=0.0, enough=0.0), TRIALS[2], cost)
    assert follow(fitted, TRIALS[2], cost).quality.ssim > eager.quality.ssim


def test_baselines_span_the_candidates() -> None:
    assert argmin_niqe(TRIALS[2]).ssim < oracle(TRIALS[2]).ssim


def test_table_has_every_level_and_rule() -> None:
    lines = table(TRIALS, Policy(), cost).splitlines()
    assert len(lines) == 2 + 5 * 4
    assert lines[5].startswith("| clean | policy |") and lines[5].endswith("| 100% |")
    assert "| 0 |" in lines[5]
