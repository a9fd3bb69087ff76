"""DR2 with (N, tau) chosen per face: from aligned degraded faces to clean, still soft ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from operators.dr2.engine import Engine, Trajectory
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import visited
from operators.quality.fidelity import fidelity
from operators.quality.judge import Judge
from operators.quality.selection import Candidate, Chain, Policy

Pixels = NDArray[np.uint8]
Identity = tuple[str, int]

STEP = 10
"""Original timesteps per step of the respaced schedule (T = 1000 in 100 steps), as published."""

STRIDE = 40
"""Original timesteps from one evaluation of the network to the next. The published code takes STEP. On 12 training
faces at three settings, each with a pair (N, tau) that suits it, 40 was at least as near to the truth as 10 with less
than a third of the evaluations (PSNR +0.06 to +0.16 dB, SSIM +0.005 to +0.014): what the coarse scales look like is
the input's doing, and few steps fill in the rest. Other updates between kept steps (`dr2e bench updates`, 18 degraded
public-domain faces, stride 40): DDIM is better at N = 8, tau = 280 (+0.18 dB, +0.010) and N = 4, tau = 160 (+0.10 dB,
+0.005), worse at N = 2, tau = 40 (-0.03 dB, -0.004); a second-order one is no better than DDIM. The published update
stays, which the enhancer and the policy were fitted to."""


@dataclass(frozen=True)
class Fixed:
    """One (N, tau) for every face. n: low-pass scale >= 1; tau: original timestep of T = 1000."""

    n: int
    tau: int


@dataclass
class Removal:
    """What became of one face.

    image: (S, S, 3) uint8; the face as it came when status is "kept".
    n, tau: the choice, tau in original timesteps; None when kept, and of a remover that knows neither.
    reason: why, in the policy's words.
    niqe_in, niqe_out: NIQE of the face and of `image` (lower is better, inf when it cannot be measured).
    evaluations: evaluations of the network spent on this face.
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


class _Face:
    """A face on its way through the chains it is given, a search of the engine: what they found, and at what price."""

    def __init__(self, remover: DegradationRemover, crop: Pixels, noise: FaceNoise, chains: NextChain) -> None:
        """chains: the chain to run next, given what is known of the face by now; None when enough is known."""
        self.remover, self.crop, self.noise, self.chains = remover, crop, noise, chains
        self.pixels = unit_range([crop])
        self.niqe = float("inf")
        self.candidates: list[Candidate] = []
        self.images: dict[tuple[int, int], Pixels] = {}
        self.evaluations = 0
        self._ahead: deque[Trajectory] = deque()
        self._n = 1

    def next(self) -> Trajectory | None:
        """See `Search`."""
        if not self._ahead:
            chain = self.chains(self)
            if chain is None:
                return None
            self._n = chain.n
            y = self.pixels[0] * 2 - 1
            for steps, taus in trajectories(chain, self.remover.last_step, self.remover.stride):
                self._ahead.append(Trajectory(y, self.noise, chain.n, steps, taus))
        trajectory = self._ahead.popleft()
        self.evaluations += len(trajectory.steps)
        return trajectory

    def take(self, step: int, x0: torch.Tensor) -> bool:
        """See `Search`. Raises ArithmeticError for an output that holds no numbers, which would be written as black."""
        if not torch.isfinite(x0).all():
            raise ArithmeticError(f"prior {self.remover.prior.name!r} gave no numbers at N = {self._n}, step {step}")
        image = _pixels(x0[None])[0]
        written = unit_range([image])  # judge what will be written: eight bits, not the network's floats
        (score,), (kept,) = self.remover.niqe.score(written), fidelity(written, self.pixels)
        self.candidates.append(Candidate(self._n, step, float(score), float(kept)))
        self.images[self._n, step] = image
        return True


NextChain = Callable[[_Face], Chain | None]


class DegradationRemover:
    """Runs DR2 chains over the faces of a unit and picks one candidate of each."""

    def __init__(
        self,
        prior: Prior,
        niqe: Judge,
        *,
        seed: int = 0,
        batch: int = 16,
        select: Policy | Fixed | None = None,
        stride: int = STRIDE,
    ) -> None:
        """prior, niqe: loaded models; any judge may stand in for NIQE. seed: of the run. batch: faces on their way at
        once; decides no result.

        select: a policy (default: the built-in one) or one fixed (N, tau). stride: timesteps of 1000 between two
        evaluations, a multiple of STEP; every tau is visited all the same. Raises ValueError for another stride, and
        for a fixed tau the prior was never trained at.
        """
        if stride < STEP or stride % STEP:
            raise ValueError(f"the stride is a multiple of {STEP} timesteps, not {stride}")
        self.stride = stride // STEP
        self.prior, self.niqe, self.seed, self.batch = prior, niqe, seed, batch
        self.select = Policy.load() if select is None else select
        self.schedule = prior.schedule.respaced(len(prior.schedule) // STEP)
        self.engine = Engine(prior, self.schedule, slots=batch)
        self.last_step = prior.spec.max_timestep // STEP - 1
        if isinstance(self.select, Fixed) and self.schedule.step_of(self.select.tau) > self.last_step:
            raise ValueError(
                f"tau {self.select.tau} is beyond what prior {prior.name!r} was trained at; "
                f"use at most {self.last_step * STEP}"
            )

    def remove(
        self, crops: Sequence[Pixels], identities: Sequence[Identity], on_step: Callable[[], None] | None = None
    ) -> list[Removal]:
        """Removes the degradation of faces.

        crops: (S, S, 3) uint8 RGB aligned faces, S = prior.size. identities: (photo key, face index) of each, which
        together with the run's seed decides its noise. on_step: see `Engine.run`. Returns one Removal per crop, in
        order; a face's result does not depend on its companions. Several threads may call this at once: their faces
        fill the same batches.
        """
        if not crops:
            return []
        faces = [
            _Face(self, crop, FaceNoise(self.seed, key, index), self._next_chain())
            for crop, (key, index) in zip(crops, identities, strict=True)
        ]
        for face, score in zip(faces, self.niqe.score(unit_range(crops)), strict=True):
            face.niqe = float(score)
        self.engine.run(faces, on_step)
        return [self._removal(face, *self._choice(face)) for face in faces]

    def candidates(
        self,
        chain: Chain,
        crops: Sequence[Pixels],
        noise: Sequence[FaceNoise],
        on_step: Callable[[], None] | None = None,
    ) -> list[list[tuple[Candidate, Pixels]]]:
        """One chain over some faces: per face its candidates with their images, (S, S, 3) uint8, largest tau first.

        on_step: see `Engine.run`.
        """
        faces = [_Face(self, crop, source, _once(chain)) for crop, source in zip(crops, noise, strict=True)]
        self.engine.run(faces, on_step)
        return [
            [(candidate, face.images[candidate.n, candidate.tau]) for candidate in _from_large_tau(face.candidates)]
            for face in faces
        ]

    def _next_chain(self) -> NextChain:
        """What tells a face its next chain: the policy, or the one chain that is fixed."""
        select = self.select
        if isinstance(select, Fixed):
            return _once(Chain.to(select.n, self.schedule.step_of(select.tau)))
        return lambda face: select.next_chain(face.niqe, face.candidates)

    def _choice(self, face: _Face) -> tuple[Candidate | None, str]:
        if isinstance(self.select, Fixed):
            return face.candidates[0], "fixed"
        choice = self.select.choose(face.niqe, face.candidates)
        return choice.candidate, choice.reason

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
        return step * STEP


def trajectories(chain: Chain, last_step: int, stride: int) -> list[tuple[tuple[int, ...], frozenset[int]]]:
    """What the engine walks for a chain: the steps of each trajectory, and the taus among them.

    last_step: the last the prior was trained at; a chain that starts beyond starts there. stride: steps from one
    evaluation to the next.
    """
    omega = min(chain.omega, last_step)
    taus = [tau for tau in chain.taus if tau <= omega] or [omega]
    if chain.n == 1:  # nothing survives a step (see Chain): one evaluation per tau instead of all in between
        return [((tau,), frozenset([tau])) for tau in taus]
    return [(visited(omega, taus, stride), frozenset(taus))]


def cost(chain: Chain, last_step: int, stride: int) -> int:
    """U-Net evaluations that a chain costs per face; arguments as for `trajectories`."""
    return sum(len(steps) for steps, _ in trajectories(chain, last_step, stride))


def _once(chain: Chain) -> NextChain:
    """This one chain, whatever it brings."""
    return lambda face: None if face.candidates else chain


def _from_large_tau(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: -candidate.tau)


def unit_range(images: Sequence[Pixels]) -> torch.Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(images))).permute(0, 3, 1, 2).float() / 255


def _pixels(images: torch.Tensor) -> Pixels:
    """(B, 3, S, S) in [-1, 1] -> (B, S, S, 3) uint8."""
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()
