"""Which DR2 chains to run for a face, and which of their candidates to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True)
class Chain:
    """One DR2 trajectory. n: low-pass scale. omega: step it starts from; taus: steps whose x0_hat are candidates.

    Steps are those of a schedule respaced to 100. At n = 1 the refinement puts the diffused input in place of all of
    x, so nothing of an earlier step survives: each tau is one denoising step of its own, and omega does not matter.
    """

    n: int
    omega: int
    taus: tuple[int, ...]


@dataclass(frozen=True)
class Candidate:
    """x0_hat of one (n, tau): its NIQE (lower is more natural, inf if unmeasurable) and its fidelity (-1 to 1)."""

    n: int
    tau: int
    niqe: float
    fidelity: float


@dataclass(frozen=True)
class Choice:
    """candidate: the one taken, or None to keep the face as it came. reason: why, for people."""

    candidate: Candidate | None
    reason: str


@dataclass(frozen=True)
class Policy:
    """Takes the candidate that gains most in NIQE for what it loses in fidelity.

    With s(c) the NIQE of candidate c and f(c) its fidelity to the input:

        choice = argmin J(c),   J(c) = s(c) + price * (1 - f(c))

    Plain argmin of NIQE (price = 0) takes the most inventive candidate: beyond a point the score falls because the
    prior's own texture replaces the person's. The price makes such a candidate pay for what it moved at the coarse
    scales, where the person is and the degradation is not.

    Chains run from gentle to strong, and only until one brings a candidate with J(c) <= enough. A face whose own
    NIQE is at most `natural` is kept as it came, before any chain runs; so is a face that cannot be measured (flat,
    saturated), in which a network would have to invent everything.

    natural: NIQE that 95 % of undegraded faces stay below. price: NIQE units for all the fidelity. enough: an
    objective no further chain is worth. jobs/fit_selection.py fits the three to a prior and a NIQE model; these
    belong to the built-in ones. chains: in the order they are tried.
    """

    natural: float = 2.6
    price: float = 40.0
    enough: float = 3.25
    chains: tuple[Chain, ...] = (
        Chain(n=1, omega=16, taus=(1, 2, 4, 6, 8, 12, 16)),
        Chain(n=4, omega=28, taus=(4, 8, 12, 16)),
    )

    def objective(self, candidate: Candidate) -> float:
        """J: lower is better; inf when the candidate cannot be measured."""
        return candidate.niqe + self.price * (1.0 - candidate.fidelity)

    def next_chain(self, niqe: float, candidates: Sequence[Candidate]) -> Chain | None:
        """The chain to run next for a face of this NIQE, given its candidates so far; None when enough is known."""
        if not isfinite(niqe) or niqe <= self.natural:
            return None
        if any(self.objective(candidate) <= self.enough for candidate in candidates):
            return None
        done = {candidate.n for candidate in candidates}
        return next((chain for chain in self.chains if chain.n not in done), None)

    def choose(self, niqe: float, candidates: Sequence[Candidate]) -> Choice:
        """The candidate to take for a face of this NIQE; none when there are none, or none that can be measured."""
        measured = [candidate for candidate in candidates if isfinite(candidate.niqe)]
        if not measured:
            natural = niqe <= self.natural
            return Choice(None, f"NIQE {niqe:.2f} is natural already" if natural else "NIQE cannot be measured")
        chosen = min(measured, key=lambda candidate: (self.objective(candidate), candidate.n, candidate.tau))
        return Choice(chosen, f"NIQE {niqe:.2f} to {chosen.niqe:.2f} at fidelity {chosen.fidelity:.3f}")
