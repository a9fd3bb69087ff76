"""DR2's loop as one would write it down from the paper: one face, one (N, tau), one step after the other.

What the engine is measured against, in speed by `dr2e bench dr2` and in numbers by its test.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.noise import Noise
from operators.dr2.prior import Prior, diffuse
from operators.dr2.sampler import start_step
from operators.dr2.schedule import Schedule

GRID_N = (1, 2, 4, 8, 16)
GRID_TAU = tuple(range(0, 401, 10))
"""The grid that the paper's Figure 9 walks: every N with every tau, in timesteps of 1000."""


@torch.inference_mode()
def published_loop(
    prior: Prior, schedule: Schedule, face: Tensor, n: int, omega: int, tau: int, noise: Noise
) -> Tensor:
    """x0_hat at step tau of one chain: (3, S, S) float32 in [-1, 1] like `face`, y.

    n: low-pass scale. omega, tau: steps of `schedule`, 0 <= tau <= omega. noise: the face's draws.
    For priors of small fixed variance; with another the work is the same and the numbers are not.
    """
    shape, matrix, y = tuple(face.shape), low_pass_matrix(prior.size, n), face[None]

    def draw(purpose: str, step: int) -> Tensor:
        return noise.draw(purpose, int(schedule.timesteps[step]), shape)[None]

    x = diffuse(y, draw("start", omega), schedule.alpha_bar[omega])
    for step in range(omega, tau - 1, -1):
        x0 = prior.estimate(x, torch.tensor([int(schedule.timesteps[step])])).x0.clamp(-1, 1)
        if step > tau:
            move = schedule.move(step, step - 1)
            x = move.x0 * x0 + move.xt * x + math.exp(0.5 * move.log_variance) * draw("reverse", step)
            y_before = diffuse(y, draw("refine", step - 1), schedule.alpha_bar[step - 1])
            x = low_pass(y_before, matrix) + x - low_pass(x, matrix)
    return x0[0]


def grid_evaluations(schedule: Schedule, last_step: int) -> int:
    """U-Net evaluations of a chain of its own for every (N, tau) of the grid, started where the published code does.

    last_step: the last step the prior was trained at.
    """
    steps = [schedule.step_of(tau) for tau in GRID_TAU]
    return sum(min(start_step(n, tau, len(schedule)), last_step) - tau + 1 for n in GRID_N for tau in steps)
