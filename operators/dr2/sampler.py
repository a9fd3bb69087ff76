"""DR2 with given N, omega and tau: chains of faces run side by side, and where the published code starts them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators.dr2.engine import Engine, Trajectory
from operators.dr2.noise import Noise
from operators.dr2.prior import Prior
from operators.dr2.schedule import Schedule


def start_step(n: int, tau: int, steps: int) -> int:
    """omega, the step a chain starts from: tau plus a margin that grows with N, as in the published code.

    tau, result: steps of a schedule respaced to ``steps``; the published margins are for 100 steps.
    """
    margin = next(margin for limit, margin in ((1, 5), (2, 10), (4, 20), (8, 25), (10**9, 30)) if n <= limit)
    return min(steps - 1, tau + round(margin * steps / 100))


def visited(omega: int, taus: Sequence[int], stride: int = 1) -> tuple[int, ...]:
    """The steps of a chain, falling from omega to min(taus) by ``stride`` at most, with every tau among them.

    As many evaluations of the network as there are steps. Raises ValueError unless 0 <= taus <= omega, stride >= 1.
    """
    wanted = sorted(set(taus))
    if not wanted or wanted[0] < 0 or wanted[-1] > omega or stride < 1:
        raise ValueError(f"need taus within 0 .. omega and a stride, got {wanted}, omega {omega}, stride {stride}")
    steps = [omega]
    while steps[-1] > wanted[0]:
        next_tau = max(tau for tau in wanted if tau < steps[-1])
        steps.append(max(next_tau, steps[-1] - stride))
    return tuple(steps)


def sample(
    prior: Prior,
    schedule: Schedule,
    faces: Tensor,
    *,
    n: int | Sequence[int],
    omega: int,
    taus: Sequence[int],
    noise: Sequence[Noise],
) -> dict[int, Tensor]:
    """Run one chain per face from step omega down to min(taus); hand back x0_hat at every tau on the way.

    x0_hat is computed at each step anyway, so one trajectory serves every tau.

    prior: the face DDPM. schedule: its schedule, respaced.
    faces: y, (B, 3, S, S) float32 in [-1, 1], with S = prior.size.
    n: low-pass scale, one for all or one per face. omega, taus: steps of ``schedule``, 0 <= tau <= omega.
    noise: the draws of each face.
    Returns {tau: x0_hat (B, 3, S, S) float32 in [-1, 1], on the CPU}.
    Raises ValueError for steps out of order or faces of the wrong size.
    """
    wanted = frozenset(taus)
    if not wanted or min(wanted) < 0 or max(wanted) > omega or omega >= len(schedule):
        raise ValueError(f"need 0 <= tau <= omega < {len(schedule)}, got taus {sorted(wanted)} and omega {omega}")
    if faces.shape[1:] != (3, prior.size, prior.size) or len(faces) != len(noise):
        raise ValueError(f"need one noise source for each of (B, 3, {prior.size}, {prior.size}), got {faces.shape}")
    scales = [n] * len(faces) if isinstance(n, int) else list(n)
    steps = visited(omega, taus)
    chains = [
        Walk(Trajectory(face, source, scale, steps, wanted))
        for face, source, scale in zip(faces.float(), noise, scales, strict=True)
    ]
    Engine(prior, schedule, slots=max(1, len(chains))).run(chains)
    return {tau: torch.stack([chain.found[tau] for chain in chains]) for tau in wanted}


class Walk:
    """A search for nothing: one trajectory, run to its end. found: x0_hat by output step."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.ahead: Trajectory | None = trajectory
        self.found: dict[int, Tensor] = {}

    def next(self) -> Trajectory | None:
        trajectory, self.ahead = self.ahead, None
        return trajectory

    def take(self, step: int, x0: Tensor) -> bool:
        self.found[step] = x0
        return True
