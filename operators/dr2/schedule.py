"""Noise schedule of a DDPM, and its respacing to fewer steps.

Equations: Ho et al. 2020 (arXiv 2006.11239); respacing as in Nichol and Dhariwal 2021 (arXiv 2102.09672).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Move:
    """q(x_j | x_i, x_0) for j < i (Ho et al. 2020, Eq. 6 and 7), a normal distribution.

    Attributes:
        x0, xt: weights of x_0 and x_i in its mean.
        log_variance: of the posterior; log_beta: of the forward process between j and i, the larger of the two.
    """

    x0: float
    xt: float
    log_variance: float
    log_beta: float


@dataclass(frozen=True, eq=False)
class Schedule:
    """A noise schedule: ``x_i = sqrt(alpha_bar_i) x_0 + sqrt(1 - alpha_bar_i) eps`` for steps i = 0 .. len-1.

    Attributes:
        betas: (steps,) float64 in (0, 1), the variance added at each step.
        timesteps: (steps,) int64, the index each step had in the schedule the network was trained with;
            this is what the network is told.
        trained_steps: T, the length of that original schedule.
    """

    betas: Array
    timesteps: NDArray[np.int64]
    trained_steps: int

    @staticmethod
    def of(betas: Array) -> Schedule:
        """The unrespaced schedule of these betas."""
        betas = np.asarray(betas, np.float64)
        if betas.ndim != 1 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("a noise schedule needs a 1-D array of betas inside (0, 1)")
        return Schedule(betas, np.arange(len(betas)), len(betas))

    @staticmethod
    def linear(steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Schedule:
        """The linear schedule of Ho et al."""
        return Schedule.of(np.linspace(start, end, steps))

    @staticmethod
    def cosine(steps: int = 1000) -> Schedule:
        """The cosine schedule of Nichol and Dhariwal (Eq. 17), its betas cut at 0.999."""
        alpha_bar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return Schedule.of(np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.999))

    def __len__(self) -> int:
        return len(self.betas)

    def respaced(self, steps: int) -> Schedule:
        """Keep ``steps`` evenly spread steps (first and last included) with the same alpha_bar at each of them.

        Raises ValueError unless 2 <= steps <= len(self).
        """
        if not 2 <= steps <= len(self):
            raise ValueError(f"cannot respace {len(self)} steps to {steps}")
        kept = np.round(np.linspace(0, len(self) - 1, steps)).astype(np.int64)
        alpha_bar = self.alpha_bar[kept]
        betas = 1.0 - alpha_bar / np.concatenate(([1.0], alpha_bar[:-1]))
        return Schedule(betas, self.timesteps[kept], self.trained_steps)

    @cached_property
    def alpha_bar(self) -> Array:
        """prod_{j <= i} (1 - beta_j)."""
        return np.cumprod(1.0 - self.betas, dtype=np.float64)

    def move(self, step: int, to: int) -> Move:
        """The reverse step from ``step`` to the earlier ``to``, which need not be its neighbour.

        Raises ValueError unless 0 <= to < step < len(self).
        """
        if not 0 <= to < step < len(self):
            raise ValueError(f"a reverse step goes down within 0 .. {len(self) - 1}, not from {step} to {to}")
        now, before = float(self.alpha_bar[step]), float(self.alpha_bar[to])
        beta = 1.0 - now / before  # the noise that the forward process adds between the two
        return Move(
            x0=beta * np.sqrt(before) / (1.0 - now),
            xt=(1.0 - before) * np.sqrt(1.0 - beta) / (1.0 - now),
            log_variance=float(np.log(beta * (1.0 - before) / (1.0 - now))),
            log_beta=float(np.log(beta)),
        )

    def step_of(self, tau: float) -> int:
        """The step nearest to original timestep ``tau``; tau = 280 is step 28 of 100 when T = 1000."""
        return int(np.clip(round(tau * len(self) / self.trained_steps), 0, len(self) - 1))
