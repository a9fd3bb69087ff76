"""What another policy would have made of faces whose grid is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from operators.quality.selection import Candidate, Chain, Pair, Policy
from operators.restoration import STEP, cost
from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.results import METHODS, FaceResult, Version


def rechosen(face: FaceResult, policy: Policy, *, last_step: int, stride: int) -> FaceResult:
    """The face with the policy's choice in place of the run's: the very numbers a run with this policy gives.

    face: with a grid that holds the policy's probe and pairs, each from a chain of its own. last_step, stride: of the
    run, for what the choice costs; see `operators.restoration.trajectories`. Raises KeyError for a pair that is not
    in the grid.
    """
    cells = {(cell.n, cell.tau // STEP): cell for cell in face.grid}
    niqe = float("inf") if face.niqe_in is None else face.niqe_in
    candidates: list[Candidate] = []
    evaluations = 0
    while (chain := policy.next_chain(niqe, candidates)) is not None:
        candidates += [_candidate(chain, tau, cells) for tau in chain.taus]
        evaluations += cost(chain, last_step, stride)
    choice = policy.choose(niqe, candidates)
    if choice.candidate is None:
        kept = tuple(Version(method, face.versions[0].values) for method in METHODS)
        return replace(
            face, status="kept", reason=choice.reason, n=None, tau=None, evaluations=evaluations, versions=kept
        )
    cell = cells[choice.candidate.n, choice.candidate.tau]
    return replace(
        face,
        status="restored",
        reason=choice.reason,
        n=cell.n,
        tau=cell.tau,
        evaluations=evaluations,
        versions=(face.versions[0], Version(METHODS[1], dict(cell.dr2)), Version(METHODS[2], dict(cell.enhanced))),
    )


def _candidate(chain: Chain, tau: int, cells: Mapping[Pair, Cell]) -> Candidate:
    cell = cells[chain.n, tau]
    return Candidate(chain.n, tau, float("inf") if cell.niqe is None else cell.niqe, cell.fidelity)
