"""DR2 with (N, tau) chosen per face: from aligned degraded faces to clean, still soft ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import evaluations, sample, start_step
from operators.quality.fidelity import fidelity
from operators.quality.niqe import Niqe
from operators.quality.selection import Candidate, Chain, Policy

Pixels = NDArray[np.uint8]
Identity = tuple[str, int]

STRIDE = 10
"""Original timesteps per step of the respaced schedule (T = 1000 in 100 steps), as published."""


@dataclass(frozen=True)
class Fixed:
    """One (N, tau) for every face. n: low-pass scale >= 1; tau: original timestep of T = 1000."""

    n: int
    tau: int


@dataclass
class Removal:
    """What became of one face.

    image: (S, S, 3) uint8; the face as it came when status is "kept".
    n, tau: the choice, tau in original timesteps; None when kept. reason: why, in the policy's words.
    niqe_in, niqe_out: NIQE of the face and of `image` (lower is better, inf when it cannot be measured).
    evaluations: U-Net evaluations spent on this face.
    candidates: what there was to choose from: {"n", "tau", "niqe" (None when not finite), "fidelity"} each.
    """

    image: Pixels
    status: Literal["restored", "kept"]
    n: int | None
    tau: int | None
    reason: str
    niqe_in: float
    niqe_out: float
    evaluations: int
    candidates: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Face:
    """A face on its way: its noise, its NIQE, and the candidates seen so far with their images."""

    crop: Pixels
    noise: FaceNoise
    niqe: float
    candidates: list[Candidate] = field(default_factory=list)
    images: dict[tuple[int, int], Pixels] = field(default_factory=dict)
    evaluations: int = 0


class DegradationRemover:
    """Runs DR2 chains over the faces of a unit and picks one candidate of each."""

    def __init__(
        self,
        prior: Prior,
        niqe: Niqe,
        *,
        seed: int = 0,
        batch: int = 16,
        select: Policy | Fixed | None = None,
    ) -> None:
        """prior, niqe: loaded models. seed: of the run. batch: faces per U-Net evaluation.

        select: a policy (default: the calibrated one) or one fixed (N, tau).
        Raises ValueError for a fixed tau the prior was never trained at.
        """
        self.prior, self.niqe, self.seed, self.batch = prior, niqe, seed, batch
        self.select = Policy() if select is None else select
        self.schedule = prior.schedule.respaced(len(prior.schedule) // STRIDE)
        self.last_step = prior.spec.max_timestep // STRIDE - 1
        if isinstance(self.select, Fixed) and self.schedule.step_of(self.select.tau) > self.last_step:
            raise ValueError(
                f"tau {self.select.tau} is beyond what prior {prior.name!r} was trained at; "
                f"use at most {self.last_step * STRIDE}"
            )

    def remove(self, crops: Sequence[Pixels], identities: Sequence[Identity]) -> list[Removal]:
        """Removes the degradation of faces.

        crops: (S, S, 3) uint8 RGB aligned faces, S = prior.size. identities: (photo key, face index) of each, which
        together with the run's seed decides its noise. Returns one Removal per crop, in order; a face's result does
        not depend on its companions but for rounding in the network.
        """
        if not crops:
            return []
        scores = self.niqe.score(unit_range(crops))
        faces = [
            _Face(crop, FaceNoise(self.seed, key, index), float(score))
            for crop, (key, index), score in zip(crops, identities, scores, strict=True)
        ]
        if isinstance(self.select, Fixed):
            chain = self._fixed_chain(self.select)
            self._run(chain, faces)
            return [self._removal(face, face.candidates[0], "fixed") for face in faces]
        policy = self.select
        waiting = list(faces)
        while waiting:
            asked: dict[Chain, list[_Face]] = defaultdict(list)
            for face in waiting:
                chain_wanted = policy.next_chain(face.niqe, face.candidates)
                if chain_wanted is not None:
                    asked[chain_wanted].append(face)
            for chain in sorted(asked, key=lambda chain: (chain.n, chain.omega)):
                self._run(chain, asked[chain])
            waiting = [face for group in asked.values() for face in group]
        choices = [policy.choose(face.niqe, face.candidates) for face in faces]
        return [
            self._removal(face, choice.candidate, choice.reason) for face, choice in zip(faces, choices, strict=True)
        ]

    def _fixed_chain(self, fixed: Fixed) -> Chain:
        step = self.schedule.step_of(fixed.tau)
        return Chain(fixed.n, min(start_step(fixed.n, step, len(self.schedule)), self.last_step), (step,))

    def _run(self, chain: Chain, faces: Sequence[_Face]) -> None:
        """Runs one chain over faces, batch by batch, and adds its candidates to each."""
        for start in range(0, len(faces), self.batch):
            together = faces[start : start + self.batch]
            found = self.candidates(chain, [face.crop for face in together], [face.noise for face in together])
            for face, of_face in zip(together, found, strict=True):
                face.evaluations += self.cost(chain)
                for candidate, image in of_face:
                    face.candidates.append(candidate)
                    face.images[candidate.n, candidate.tau] = image

    def candidates(
        self, chain: Chain, crops: Sequence[Pixels], noise: Sequence[FaceNoise]
    ) -> list[list[tuple[Candidate, Pixels]]]:
        """One chain over one batch: per face its candidates with their images, (S, S, 3) uint8, largest tau first."""
        faces = unit_range(crops)
        results: dict[int, torch.Tensor] = {}
        for omega, taus in self._runs(chain):
            results |= sample(self.prior, self.schedule, faces * 2 - 1, n=chain.n, omega=omega, taus=taus, noise=noise)
        found: list[list[tuple[Candidate, Pixels]]] = [[] for _ in crops]
        for tau in sorted(results, reverse=True):
            images = list(_pixels(results[tau]))
            written = unit_range(images)  # judge what will be written: eight bits, not the network's floats
            scores, agreement = self.niqe.score(written), fidelity(written, faces)
            for of_face, image, score, kept in zip(found, images, scores, agreement, strict=True):
                of_face.append((Candidate(chain.n, tau, float(score), float(kept)), image))
        return found

    def cost(self, chain: Chain) -> int:
        """U-Net evaluations that ``chain`` costs per face."""
        return sum(evaluations(omega, taus) for omega, taus in self._runs(chain))

    def _runs(self, chain: Chain) -> list[tuple[int, list[int]]]:
        """The trajectories (omega, taus) a chain takes, cut to the steps the prior was trained at."""
        omega = min(chain.omega, self.last_step)
        taus = [tau for tau in chain.taus if tau <= omega] or [omega]
        # Nothing survives a step at N = 1 (see Chain): one evaluation per tau instead of all in between.
        return [(tau, [tau]) for tau in taus] if chain.n == 1 else [(omega, taus)]

    def _removal(self, face: _Face, chosen: Candidate | None, reason: str) -> Removal:
        return Removal(
            image=face.crop if chosen is None else face.images[chosen.n, chosen.tau],
            status="kept" if chosen is None else "restored",
            n=None if chosen is None else chosen.n,
            tau=None if chosen is None else self._timestep(chosen.tau),
            reason=reason,
            niqe_in=face.niqe,
            niqe_out=face.niqe if chosen is None else chosen.niqe,
            evaluations=face.evaluations,
            candidates=[self._plain(candidate) for candidate in face.candidates],
        )

    def _plain(self, candidate: Candidate) -> dict[str, Any]:
        return {
            "n": candidate.n,
            "tau": self._timestep(candidate.tau),
            "niqe": candidate.niqe if np.isfinite(candidate.niqe) else None,
            "fidelity": candidate.fidelity,
        }

    def _timestep(self, step: int) -> int:
        """Public tau: in original timesteps, so that 280 is step 28 of 100."""
        return step * STRIDE


def unit_range(images: Sequence[Pixels]) -> torch.Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(images))).permute(0, 3, 1, 2).float() / 255


def _pixels(images: torch.Tensor) -> Pixels:
    """(B, 3, S, S) in [-1, 1] -> (B, S, S, 3) uint8."""
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()
