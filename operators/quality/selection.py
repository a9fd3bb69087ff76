"""Which DR2 chains to run for a face, and which of their candidates to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from operators.dr2.sampler import start_step
from operators.training.weights import WeightsError, load_weights, save_weights, sha256_file
from operators.weights import resolve

Pair = tuple[int, int]
"""(N, tau): low-pass scale; step of a schedule respaced to 100."""

REACH = 2.5
"""Scores count as at most this many standard deviations from those the policy was fitted to: beyond, its parabolas
would only be guessing."""


@dataclass(frozen=True)
class Chain:
    """One DR2 trajectory. n: low-pass scale. omega: step it starts from; taus: steps whose x0_hat are candidates.

    Steps are those of a schedule respaced to 100. At n = 1 the refinement puts the diffused input in place of all of
    x, so nothing of an earlier step survives: each tau is one denoising step of its own, and omega does not matter.
    """

    n: int
    omega: int
    taus: tuple[int, ...]

    @classmethod
    def to(cls, n: int, tau: int) -> Chain:
        """The chain of one pair, started where the published code starts it."""
        return cls(n, start_step(n, tau, 100), (tau,))


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


@dataclass(frozen=True, eq=False)
class Policy:
    """Reads off a few single denoising steps how damaged a face is, and runs the chain that such damage needs.

    A step at N = 1 takes the noise away that hides under its tau and leaves blur as it is. So the NIQE of the face as
    it came, and of x0_hat(1, tau) for a few small tau, the probe, say how much of either there is:

        s = (NIQE(y), NIQE(x0_hat(1, tau)) for tau in probe),    z = (s - centre) / scale, within +- REACH

        gain(N, tau) = w_0 + w_1 . z + w_2 . z^2,                choice = argmax gain

    gain is what the result of (N, tau) was found to be better or worse than the mean of all pairs, in SSIM and PSNR
    to undegraded faces (`operators.quality.selection_fit`): NIQE is the judge of how bad a face is, and not of which
    candidate is best, because it falls again where a prior invents the most.

    A face whose own NIQE is at most `natural` is kept as it came, before any step is taken; so is a face that cannot
    be measured (flat, saturated), in which a network would have to invent everything. A candidate that cannot be
    measured, or whose fidelity is below `faithful`, gives way to the next best of those there are.

    Attributes:
        natural: -inf where nothing is to be kept. faithful: as said. probe: steps.
        pairs: what may be chosen, gentle to strong.
        centre, scale: (1 + len(probe),) float64. weights: (len(pairs), 1 + 2 (1 + len(probe))) float64.
        fingerprint: SHA-256 of the file it came from; "" for one made in memory.
    """

    natural: float
    faithful: float
    probe: tuple[int, ...]
    pairs: tuple[Pair, ...]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    fingerprint: str = ""

    def __post_init__(self) -> None:
        scores = 1 + len(self.probe)
        shapes = (self.centre.shape, self.scale.shape, self.weights.shape)
        if not self.probe or shapes != ((scores,), (scores,), (len(self.pairs), 1 + 2 * scores)):
            raise ValueError(f"not a policy: {len(self.pairs)} pairs, probe {self.probe}, arrays of shapes {shapes}")
        steps = [*self.probe, *(tau for _, tau in self.pairs)]
        if not self.pairs or min(steps) < 0 or max(steps) > 99 or min(n for n, _ in self.pairs) < 1:
            raise ValueError(
                f"a policy needs pairs (N, tau) of N >= 1 and steps 0 .. 99, got {self.pairs}, {self.probe}"
            )
        numbers = (self.centre, self.scale, self.weights, np.array(self.faithful))
        if not all(np.isfinite(values).all() for values in numbers) or self.scale.min() <= 0 or isnan(self.natural):
            raise ValueError("a policy needs finite numbers and a scale above 0")

    @classmethod
    def load(cls, source: str | Path = "builtin") -> Policy:
        """Loads "builtin" or a file written by `dr2e fit-selection`. Raises WeightsError naming the file."""
        path = resolve(str(source), "policy")
        state, description = load_weights(path, kind="policy")
        try:
            return cls(
                natural=float("-inf") if description["natural"] is None else float(description["natural"]),
                faithful=float(description["faithful"]),
                probe=tuple(int(tau) for tau in description["probe"]),
                pairs=tuple((int(n), int(tau)) for n, tau in description["pairs"]),
                centre=state["centre"].numpy(),
                scale=state["scale"].numpy(),
                weights=state["weights"].numpy(),
                fingerprint=sha256_file(path),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise WeightsError(f"{path} is not a usable policy ({error}); fit it with 'dr2e fit-selection'") from error

    def save(self, path: Path, description: Mapping[str, Any]) -> None:
        """Writes the policy as safetensors in float64, with `description` (JSON values) in its header."""
        state = {name: torch.from_numpy(getattr(self, name)) for name in ("centre", "scale", "weights")}
        own = {name: getattr(self, name) for name in ("faithful", "probe", "pairs")}
        natural = self.natural if isfinite(self.natural) else None  # JSON has no infinity
        save_weights(path, state, {**description, **own, "natural": natural, "kind": "policy"})

    def gains(self, niqe: float, candidates: Sequence[Candidate]) -> dict[Pair, float]:
        """What each pair promises for a face of this NIQE whose probe is among `candidates`."""
        found = {candidate.tau: candidate.niqe for candidate in candidates if candidate.n == 1}
        scores = np.array([niqe, *(found.get(tau, float("inf")) for tau in self.probe)])
        described = describe(scores, self.centre, self.scale)
        return {pair: float(gain) for pair, gain in zip(self.pairs, self.weights @ described, strict=True)}

    def next_chain(self, niqe: float, candidates: Sequence[Candidate]) -> Chain | None:
        """The chain to run next for a face of this NIQE, given its candidates so far; None when enough is known."""
        if not isfinite(niqe) or niqe <= self.natural:
            return None
        if not candidates:
            return Chain(1, max(self.probe), self.probe)
        if any(candidate.n != 1 or candidate.tau not in self.probe for candidate in candidates):
            return None
        gains = self.gains(niqe, candidates)
        n, tau = max(self.pairs, key=gains.__getitem__)
        return None if n == 1 and tau in self.probe else Chain.to(n, tau)

    def choose(self, niqe: float, candidates: Sequence[Candidate]) -> Choice:
        """The candidate to take for a face of this NIQE; none when there are none, or none that can be measured."""
        measured = [candidate for candidate in candidates if isfinite(candidate.niqe)]
        if not measured:
            natural = niqe <= self.natural
            return Choice(None, f"NIQE {niqe:.2f} is natural already" if natural else "NIQE cannot be measured")
        gains = self.gains(niqe, candidates)

        def promise(candidate: Candidate) -> tuple[bool, float, int, int, int]:
            """Gain, and then how near the candidate is to a pair: a prior may not reach the tau that was asked for."""
            near = [(gains[pair], -abs(pair[1] - candidate.tau)) for pair in self.pairs if pair[0] == candidate.n]
            gain, nearness = max(near, key=lambda found: found[1], default=(float("-inf"), 0))
            return candidate.fidelity >= self.faithful, gain, nearness, -candidate.n, -candidate.tau

        chosen = max(measured, key=promise)
        return Choice(chosen, f"NIQE {niqe:.2f} to {chosen.niqe:.2f} at fidelity {chosen.fidelity:.3f}")


def describe(
    scores: NDArray[np.float64], centre: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(1, z, z^2) of scores: (..., K) float64 -> (..., 1 + 2 K). What cannot be measured says nothing: z = 0."""
    z = np.where(np.isfinite(scores), (np.where(np.isfinite(scores), scores, 0.0) - centre) / scale, 0.0)
    z = np.clip(z, -REACH, REACH)
    return np.concatenate([np.ones((*z.shape[:-1], 1)), z, z**2], axis=-1)
