"""Another policy on stored faces: the choice, its cost and its numbers follow from the grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from operators.quality.selection import Policy
from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.choice.rechoose import rechosen
from pipeline.evaluation.results import METHODS, FaceResult, Version


def policy(*, natural: float = 2.0, strong: bool = True, faithful: float = 0.5) -> Policy:
    """Wants (4, 16), or else (1, 2), whatever the scores."""
    weights = np.zeros((2, 5))
    weights[int(strong), 0] = 1.0
    return Policy(natural, faithful, (2,), ((1, 2), (4, 16)), np.zeros(2), np.ones(2), weights)


def face(niqe: float | None = 5.0) -> FaceResult:
    grid = tuple(
        Cell(n, tau, score, fidelity, {"ssim": n / 10}, {"ssim": (n + 1) / 8})
        for n, tau, score, fidelity in ((1, 20, 4.0, 0.99), (4, 160, 3.0, 0.8), (4, 200, 3.0, 0.8))
    )
    versions = tuple(Version(method, {"ssim": 0.3}) for method in METHODS)
    return FaceResult("severe-8", "restored", "", 4, 200, 99, versions, niqe_in=niqe, strip=b"jpeg", grid=grid)


def outcome(found: FaceResult) -> tuple[str, int | None, int | None, int, list[float | None]]:
    return found.status, found.n, found.tau, found.evaluations, [v.values["ssim"] for v in found.versions]


def test_the_choice_is_made_as_a_run_makes_it() -> None:
    # (4, 16) starts at 36: 36, 32 .. 16 are six evaluations; the probe is one.
    assert outcome(rechosen(face(), policy(), last_step=99, stride=4)) == ("restored", 4, 160, 7, [0.3, 0.4, 0.625])
    gentle = rechosen(face(), policy(strong=False), last_step=99, stride=4)
    assert outcome(gentle) == ("restored", 1, 20, 1, [0.3, 0.1, 0.25])
    bound = rechosen(face(), policy(faithful=0.9), last_step=99, stride=4)
    assert outcome(bound) == ("restored", 1, 20, 7, [0.3, 0.1, 0.25])


@pytest.mark.parametrize("niqe", [1.5, None])
def test_a_good_or_unmeasurable_face_is_kept_at_no_cost(niqe: float | None) -> None:
    assert outcome(rechosen(face(niqe), policy(), last_step=99, stride=4)) == ("kept", None, None, 0, [0.3] * 3)


def test_a_pair_that_was_not_measured_is_an_error() -> None:
    coarse = replace(face(), grid=face().grid[:1])
    with pytest.raises(KeyError):
        rechosen(coarse, policy(), last_step=99, stride=4)
