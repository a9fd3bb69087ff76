"""Which DR2 chains to run for a face, and which of their candidates to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from operators.quality.appearance import Appearance


@dataclass(frozen=True)
class Chain:
    """One DR2 trajectory. n: low-pass scale. omega: step it starts from; taus: steps whose x0_hat are candidates.

    Steps are those of a schedule respaced to 100.
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
    """Takes the most faithful candidate that looks natural enough.

    With s(c) the NIQE of candidate c, f(c) its fidelity to the input and s* the lowest NIQE among the candidates:

        choice = argmax f(c)   over   { c : s(c) <= max(natural, s* + margin) }

    Plain argmin of NIQE takes the most inventive candidate: the floor of the curve is flat, and going along it
    trades the person for texture. So NIQE is the bound here and fidelity the aim.

    Chains run from gentle to strong, and only until one brings a natural candidate: a stronger chain could only
    be less faithful. A face whose own NIQE is natural is kept as it came, before any chain runs; so is a face that
    cannot be measured (flat, saturated), for which a network would have to invent everything.

    natural: NIQE that 95 % of undegraded faces stay below. margin: in units of NIQE. Both are fitted by
    `dr2e fit-selection`. chains: in the order they are tried.
    """

    natural: float = 2.7
    margin: float = 0.5
    chains: tuple[Chain, ...] = (
        Chain(n=2, omega=26, taus=(4, 8, 12, 16)),
        Chain(n=4, omega=40, taus=(12, 16, 20, 28)),
    )

    def next_chain(self, face: Appearance, candidates: Sequence[Candidate]) -> Chain | None:
        """The chain to run next for a face, given the candidates so far; None when enough is known."""
        if not isfinite(face.niqe) or face.niqe <= self.natural:
            return None
        if any(candidate.niqe <= self.natural for candidate in candidates):
            return None
        done = {candidate.n for candidate in candidates}
        return next((chain for chain in self.chains if chain.n not in done), None)

    def choose(self, face: Appearance, candidates: Sequence[Candidate]) -> Choice:
        """The candidate to take; none when there are none, or none that can be measured."""
        measured = [candidate for candidate in candidates if isfinite(candidate.niqe)]
        if not measured:
            natural = face.niqe <= self.natural
            return Choice(None, f"NIQE {face.niqe:.2f} is natural already" if natural else "NIQE cannot be measured")
        limit = max(self.natural, min(candidate.niqe for candidate in measured) + self.margin)
        eligible = (candidate for candidate in measured if candidate.niqe <= limit)
        chosen = max(eligible, key=lambda candidate: (candidate.fidelity, -candidate.n, -candidate.tau))
        return Choice(chosen, f"the most faithful of the candidates with NIQE at most {limit:.2f}")
