"""DR2's sampling loop (Algorithm 1 of the paper): denoise a face while its low frequencies stay put."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.noise import Noise
from operators.dr2.prior import Prior, diffuse
from operators.dr2.schedule import Schedule


def start_step(n: int, tau: int, steps: int) -> int:
    """omega, the step a chain starts from: tau plus a margin that grows with N, as in the published code.

    tau, result: steps of a schedule respaced to ``steps``; the published margins are for 100 steps.
    """
    margin = next(margin for limit, margin in ((1, 5), (2, 10), (4, 20), (8, 25), (10**9, 30)) if n <= limit)
    return min(steps - 1, tau + round(margin * steps / 100))


@torch.inference_mode()
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

    Each step i denoises and then replaces the low frequencies by those of the freshly diffused input
    (Eq. 9): ``x_{i-1} <- Phi_N(y_{i-1}) + (I - Phi_N)(x_{i-1})``. x0_hat is computed at each step
    anyway, so one trajectory serves every tau.

    prior: the face DDPM. schedule: its schedule, respaced.
    faces: y, (B, 3, S, S) float32 in [-1, 1], with S = prior.size.
    n: low-pass scale, one for all or one per face. omega, taus: steps of ``schedule``, 0 <= tau <= omega.
    noise: the draws of each face.
    Returns {tau: x0_hat (B, 3, S, S) float32 in [-1, 1]}.
    Raises ValueError for steps out of order or faces of the wrong size.
    """
    wanted = set(taus)
    if not wanted or min(wanted) < 0 or max(wanted) > omega or omega >= len(schedule):
        raise ValueError(f"need 0 <= tau <= omega < {len(schedule)}, got taus {sorted(wanted)} and omega {omega}")
    if faces.shape[1:] != (3, prior.size, prior.size) or len(faces) != len(noise):
        raise ValueError(f"need one noise source for each of (B, 3, {prior.size}, {prior.size}), got {faces.shape}")
    y = faces.to(prior.device, torch.float32)
    scales = [n] * len(y) if isinstance(n, int) else list(n)
    filters = torch.stack([low_pass_matrix(prior.size, scale) for scale in scales]).to(y.device)

    def draw(purpose: str, step: int) -> Tensor:
        timestep, shape = int(schedule.timesteps[step]), tuple(y.shape[1:])
        return torch.stack([source.draw(purpose, timestep, shape) for source in noise]).to(y.device)

    results: dict[int, Tensor] = {}
    x = diffuse(y, draw("start", omega), schedule.alpha_bar[omega])
    for step in range(omega, min(wanted) - 1, -1):
        timesteps = torch.full((len(y),), int(schedule.timesteps[step]), device=y.device)
        estimate = prior.estimate(x, timesteps)
        x0 = estimate.x0.clamp(-1, 1)
        if step in wanted:
            results[step] = x0
        if step == min(wanted):
            break
        x = _reverse_mean(schedule, step, x0, x)
        x = x + (0.5 * _log_variance(prior, schedule, step, estimate.fraction)).exp() * draw("reverse", step)
        y_before = diffuse(y, draw("refine", step - 1), schedule.alpha_bar[step - 1])
        x = x + low_pass(y_before - x, filters)
    return results


def evaluations(omega: int, taus: Sequence[int]) -> int:
    """U-Net evaluations a chain costs per face."""
    return omega - min(taus) + 1


def _reverse_mean(schedule: Schedule, step: int, x0: Tensor, x: Tensor) -> Tensor:
    """Mean of q(x_{i-1} | x_i, x_0) (Ho et al. 2020, Eq. 7)."""
    return float(schedule.posterior_x0[step]) * x0 + float(schedule.posterior_xt[step]) * x


def _log_variance(prior: Prior, schedule: Schedule, step: int, fraction: Tensor | None) -> Tensor:
    """log variance of the reverse step: fixed, or interpolated in the log domain by the network's fraction."""
    small, large = float(schedule.posterior_log_variance[step]), float(np.log(schedule.betas[step]))
    if fraction is not None:
        share = (fraction + 1) / 2
        return share * large + (1 - share) * small
    return torch.tensor(large if prior.spec.variance == "fixed_large" else small, device=prior.device)
