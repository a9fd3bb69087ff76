import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from priors import untrained
from scipy import ndimage

from operators.dr2.prior import Prior, PriorSpec
from operators.dr2.schedule import Schedule
from operators.quality.niqe import Niqe
from operators.quality.selection import Pair, Policy
from operators.restoration import DegradationRemover, Fixed

SIZE = 64


@pytest.fixture(scope="module")
def prior() -> Prior:
    return untrained(SIZE, 16, max_timestep=400)


@pytest.fixture(scope="module")
def niqe() -> Niqe:
    return Niqe.load("builtin")


def faces(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    soft = ndimage.gaussian_filter(rng.standard_normal((count, SIZE, SIZE, 3)), (0, 3, 3, 0))
    noisy = 128 + 40 * soft / soft.std() + rng.normal(0, 12, soft.shape)
    return list(np.clip(noisy, 0, 255).astype(np.uint8))


IDENTITIES = [("a", 0), ("a", 1), ("b", 0), ("c", 0)]


def policy(*pairs: Pair, probe: tuple[int, ...] = (1, 3), natural: float = 0.0) -> Policy:
    """Wants the first of `pairs`, whatever the face."""
    scores = 1 + len(probe)
    weights = np.zeros((len(pairs), 1 + 2 * scores))
    weights[0, 0] = 1.0
    return Policy(natural, -1.0, probe, pairs, np.zeros(scores), np.ones(scores), weights)


SHORT = policy((4, 5), (1, 3))


def remover(
    prior: Prior, niqe: Niqe, select: Policy | Fixed, batch: int = 2, seed: int = 0, stride: int = 10
) -> DegradationRemover:
    return DegradationRemover(prior, niqe, seed=seed, batch=batch, select=select, stride=stride)


def test_fixed_choice_runs_one_chain_with_the_published_margin(prior: Prior, niqe: Niqe) -> None:
    (removal,) = remover(prior, niqe, Fixed(n=2, tau=30)).remove(faces(1), IDENTITIES[:1])
    assert (removal.status, removal.n, removal.tau, removal.evaluations) == ("restored", 2, 30, 11)
    assert [(c["n"], c["tau"]) for c in removal.candidates] == [(2, 30)]
    assert removal.image.shape == (SIZE, SIZE, 3) and removal.image.dtype == np.uint8
    assert removal.niqe_in > 0 and removal.niqe_out == removal.candidates[0]["niqe"]


def test_automatic_choice_is_one_of_the_candidates_and_says_what_it_cost(prior: Prior, niqe: Niqe) -> None:
    for removal in remover(prior, niqe, SHORT).remove(faces(3), IDENTITIES[:3]):
        assert removal.status == "restored" and removal.reason
        assert (removal.n, removal.tau, removal.niqe_out) in [(c["n"], c["tau"], c["niqe"]) for c in removal.candidates]
        assert {c["tau"] % 10 for c in removal.candidates} == {0}
        assert [(c["n"], c["tau"]) for c in removal.candidates] == [(1, 10), (1, 30), (4, 50)]
        assert (removal.n, removal.tau, removal.evaluations) == (4, 50, 2 + 21)
        json.dumps(removal.candidates, allow_nan=False)


@pytest.mark.parametrize("select", [SHORT, Fixed(n=4, tau=20)], ids=["niqe", "fixed"])
def test_batch_size_and_order_do_not_matter(prior: Prior, niqe: Niqe, select: Policy | Fixed) -> None:
    crops = faces(4)
    ahead = remover(prior, niqe, select, batch=4).remove(crops, IDENTITIES)
    back = remover(prior, niqe, select, batch=1).remove(crops[::-1], IDENTITIES[::-1])[::-1]
    for one, other in zip(ahead, back, strict=True):
        assert (one.n, one.tau, one.evaluations) == (other.n, other.tau, other.evaluations)
        assert np.array_equal(one.image, other.image)
        assert one.candidates == other.candidates


def test_without_a_low_pass_every_tau_costs_one_evaluation(prior: Prior, niqe: Niqe) -> None:
    light = policy((1, 9), probe=(2, 9, 30))
    (removal,) = remover(prior, niqe, light).remove(faces(1), IDENTITIES[:1])
    assert removal.evaluations == len(removal.candidates) == 3
    chosen_alone = Fixed(n=removal.n or 0, tau=removal.tau or 0)
    (alone,) = remover(prior, niqe, chosen_alone).remove(faces(1), IDENTITIES[:1])
    assert np.array_equal(alone.image, removal.image) and alone.evaluations == 1


def test_two_runs_are_identical_and_the_seed_matters(prior: Prior, niqe: Niqe) -> None:
    def images(seed: int) -> np.ndarray:
        removals = remover(prior, niqe, Fixed(n=2, tau=20), seed=seed).remove(faces(2), IDENTITIES[:2])
        return np.stack([removal.image for removal in removals])

    assert np.array_equal(images(0), images(0))
    assert not np.array_equal(images(0), images(1))


def test_a_good_face_comes_back_untouched_and_unpaid(prior: Prior, niqe: Niqe) -> None:
    crops = faces(2)
    crops.append(np.full((SIZE, SIZE, 3), 90, np.uint8))
    content = remover(prior, niqe, policy((1, 3), natural=1000.0)).remove(crops, IDENTITIES[:3])
    for crop, removal in zip(crops, content, strict=True):
        assert (removal.status, removal.n, removal.tau, removal.evaluations) == ("kept", None, None, 0)
        assert np.array_equal(removal.image, crop)
        assert removal.candidates == []


def test_no_faces_give_no_removals(prior: Prior, niqe: Niqe) -> None:
    assert remover(prior, niqe, SHORT).remove([], []) == []


def test_chains_stay_below_what_the_prior_was_trained_at(prior: Prior, niqe: Niqe) -> None:
    (removal,) = remover(prior, niqe, policy((4, 35), (1, 3))).remove(faces(1), IDENTITIES[:1])
    assert (removal.tau, removal.evaluations) == (350, 2 + 39 - 35 + 1)
    (removal,) = remover(prior, niqe, policy((4, 50), (1, 3))).remove(faces(1), IDENTITIES[:1])
    assert (removal.n, removal.tau, removal.evaluations) == (4, 390, 2 + 1)
    with pytest.raises(ValueError, match="use at most 390"):
        remover(prior, niqe, Fixed(n=4, tau=500))


def test_a_stride_costs_less_and_finds_the_same_taus(prior: Prior, niqe: Niqe) -> None:
    (every,) = remover(prior, niqe, SHORT).remove(faces(1), IDENTITIES[:1])
    (some,) = remover(prior, niqe, SHORT, stride=20).remove(faces(1), IDENTITIES[:1])
    assert [(c["n"], c["tau"]) for c in some.candidates] == [(c["n"], c["tau"]) for c in every.candidates]
    assert (every.evaluations, some.evaluations) == (2 + 21, 2 + 11)
    with pytest.raises(ValueError, match="multiple of 10"):
        remover(prior, niqe, SHORT, stride=15)


def odd_prior(value: float) -> Prior:
    """A prior whose network says `value` of every pixel."""

    class Says(torch.nn.Module):
        def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(sample=torch.full_like(x, value))

    spec = PriorSpec(SIZE, max_timestep=400, prediction="sample")
    return Prior(Says(), spec, Schedule.linear(), name="odd", licence="", fingerprint="", precision="float32")


@pytest.mark.parametrize("value", [0.3, 1e6, -1e6], ids=["constant", "white", "black"])
def test_candidates_that_cannot_be_measured_leave_the_face_as_it_came(niqe: Niqe, value: float) -> None:
    (crop,) = faces(1)
    (removal,) = remover(odd_prior(value), niqe, policy((1, 3), (4, 5))).remove([crop], IDENTITIES[:1])
    assert (removal.status, removal.reason) == ("kept", "NIQE cannot be measured")
    assert np.array_equal(removal.image, crop) and len(removal.candidates) == 2
    assert all(candidate["niqe"] is None for candidate in removal.candidates)
    json.dumps(removal.candidates, allow_nan=False)


def test_a_network_that_gives_no_numbers_is_an_error_and_no_black_face(niqe: Niqe) -> None:
    with pytest.raises(ArithmeticError, match="prior 'odd' gave no numbers at N = 4"):
        remover(odd_prior(float("nan")), niqe, Fixed(4, 20)).remove(faces(1), IDENTITIES[:1])
