"""Which chains to run for a face, and which of their candidates to take."""

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

    With s(c) the NIQE of candidate c, f(c) its fidelity to the input and s* the lowest NIQE of all candidates:

        choice = argmax f(c)   over   { c : s(c) <= max(natural, s* + margin) }

    Plain argmin of NIQE takes the most inventive candidate: the floor of the curve is flat, and going further along
    it only trades the person for texture. So the floor is a bound here, and fidelity the aim.
    A face whose own NIQE is at most `natural` is kept as it came, before any chain runs.
    """

    natural: float = 2.7
    margin: float = 0.5
    chains: tuple[Chain, ...] = (Chain(2, 24, (4, 8, 12, 16)), Chain(8, 40, (8, 16, 24)))

    def next_chain(self, face: Appearance, candidates: Sequence[Candidate]) -> Chain | None:
        """The chain to run next for a face, given the candidates so far; None when enough is known."""
        if face.niqe <= self.natural or not isfinite(face.niqe):
            return None
        done = {candidate.n for candidate in candidates}
        return next((chain for chain in self.chains if chain.n not in done), None)

    def choose(self, face: Appearance, candidates: Sequence[Candidate]) -> Choice:
        """The candidate to take, or none of them when there are none or none has a finite NIQE."""
        if not isfinite(face.niqe):
            return Choice(None, "nothing to measure in this face")
        if not candidates:
            return Choice(None, f"NIQE {face.niqe:.2f} is natural already")
        limit = max(self.natural, min(candidate.niqe for candidate in candidates) + self.margin)
        chosen = max((c for c in candidates if c.niqe <= limit), key=lambda c: c.fidelity)
        return Choice(chosen, f"most faithful candidate with NIQE at most {limit:.2f}")
