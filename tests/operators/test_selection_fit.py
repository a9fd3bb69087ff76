from dataclasses import replace

import numpy as np
import pytest

from operators.quality.selection import Candidate
from operators.quality.selection_fit import PAIRS, PROBE, Examples, _heaviest, fit, score_columns

FACES = 120


def examples(seed: int = 0) -> Examples:
    """Faces of a severity, 0 to 1, that the probe shows: the more severe, the later the best pair."""
    rng = np.random.default_rng(seed)
    severity = np.linspace(0, 1, FACES)
    scores = 3 + 3 * severity[:, None] + rng.normal(0, 0.1, (FACES, 1 + len(PROBE)))
    best = severity * (len(PAIRS) - 1)
    qualities = 0.8 - 0.01 * np.abs(np.arange(len(PAIRS)) - best[:, None]) + rng.normal(0, 0.002, (FACES, len(PAIRS)))
    degraded = severity > 0.1
    return Examples(
        scores=scores,
        qualities=qualities,
        fidelities=np.tile(np.linspace(1, 0.7, len(PAIRS)), (FACES, 1)),
        degraded=degraded,
        groups=rng.permutation(FACES),
    )


def pair_for(niqe: float) -> int:
    """Where among PAIRS the fitted policy's choice lies for a face whose scores are all `niqe`."""
    gains = fit(examples()).policy.gains(niqe, [Candidate(1, tau, niqe, 1.0) for tau in PROBE])
    return PAIRS.index(max(gains, key=gains.__getitem__))


def test_the_policy_finds_the_pair_that_damage_needs() -> None:
    gentle, strong = pair_for(3.6), pair_for(5.7)
    assert gentle < len(PAIRS) / 2 < strong


def test_the_choice_lies_between_the_best_pair_for_all_and_the_best_of_each() -> None:
    fitted = fit(examples())
    assert fitted.best_pair + 0.01 < fitted.quality < fitted.best


def test_clean_faces_are_kept_and_hardly_a_degraded_one() -> None:
    known = examples()
    fitted = fit(known)
    kept = known.scores[:, 0] <= fitted.policy.natural
    assert fitted.kept == kept[~known.degraded].mean() > 0.6
    assert 0 < kept[known.degraded].mean() < 0.03


def test_a_collection_without_clean_faces_will_do() -> None:
    known = examples()
    assert fit(replace(known, degraded=np.ones(FACES, bool))).kept is None


def test_a_judge_may_score_below_zero() -> None:
    known = examples()
    below = fit(replace(known, scores=known.scores - 10)).policy
    assert below.natural == pytest.approx(fit(known).policy.natural - 10)
    assert np.allclose(below.weights, fit(known).policy.weights)


def test_scores_that_cannot_be_measured_do_not_spoil_the_fit() -> None:
    known = examples()
    scores = known.scores.copy()
    scores[::7, 1], scores[5, 0] = np.inf, np.inf
    policy = fit(replace(known, scores=scores)).policy
    assert np.isfinite(policy.weights).all() and np.isfinite(policy.centre).all()


def test_the_order_of_faces_does_not_matter() -> None:
    known, order = examples(), np.random.default_rng(1).permutation(FACES)
    shuffled = Examples(**{name: values[order] for name, values in vars(known).items()})
    assert np.allclose(fit(known).policy.weights, fit(shuffled).policy.weights)
    assert fit(known).quality == pytest.approx(fit(shuffled).quality)


def test_one_group_is_not_enough() -> None:
    with pytest.raises(ValueError, match="at least two groups"):
        fit(replace(examples(), groups=np.zeros(FACES, np.int64)))


def test_a_missing_score_is_infinite() -> None:
    assert score_columns(4.0, [None, 3.0]) == [4.0, float("inf"), 3.0]


def test_of_penalties_as_good_as_the_best_the_heaviest_is_taken() -> None:
    rng = np.random.default_rng(0)
    best = rng.normal(1.0, 0.1, 400)
    tie, worse = best + rng.normal(-0.0001, 0.02, 400), best - 0.01 + rng.normal(0, 0.02, 400)
    assert _heaviest({1.0: best, 10.0: tie, 100.0: worse}) == 10.0
    assert _heaviest({1.0: best, 10.0: worse}) == 1.0
    assert _heaviest({3.0: best}) == 3.0
