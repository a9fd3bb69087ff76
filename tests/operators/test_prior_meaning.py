"""What a prior's output means: every parametrisation by its closed form, every variance by its published formula."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from operators.dr2.engine import Engine, Trajectory
from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.prior import Prediction, Prior, PriorSpec, Variance, to_target
from operators.dr2.sampler import Walk
from operators.dr2.schedule import Schedule

SIZE = 16
X = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
OUTPUT = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
FRACTION = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1


class Known(nn.Module):
    """Puts out what it is told, and remembers the timesteps it was asked at."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output, self.timesteps = output, list[Tensor]()

    def forward(self, x: Tensor, timesteps: Tensor) -> Any:
        self.timesteps.append(timesteps)
        return SimpleNamespace(sample=self.output[:1].expand(len(x), -1, -1, -1) if len(x) != 2 else self.output)


def prior(output: Tensor, prediction: Prediction = "epsilon", variance: Variance = "fixed_small") -> Prior:
    spec = PriorSpec(SIZE, prediction, variance)
    network: Any = Known(output)
    return Prior(network, spec, Schedule.linear(), name="known", licence="", fingerprint="", precision="float32")


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_the_estimate_is_the_closed_form(prediction: Prediction) -> None:
    """epsilon: Ho et al. 2020, below Eq. 8; v: Salimans and Ho 2022, below Eq. 12; each in double precision."""
    made, t = prior(OUTPUT, prediction), torch.tensor([40, 700])
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t.numpy()].reshape(-1, 1, 1, 1)
    x, output = X.double().numpy(), OUTPUT.double().numpy()
    expected = {
        "epsilon": (x - np.sqrt(1 - alpha_bar) * output) / np.sqrt(alpha_bar),
        "v_prediction": np.sqrt(alpha_bar) * x - np.sqrt(1 - alpha_bar) * output,
        "sample": output,
    }[prediction]
    estimate = made.estimate(X, t)
    np.testing.assert_allclose(estimate.x0, expected, rtol=1e-4, atol=1e-4)
    assert estimate.fraction is None
    assert made.network.timesteps[0].tolist() == t.tolist()


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_a_network_that_is_right_gives_the_face_back(prediction: Prediction) -> None:
    noise, alpha_bar = OUTPUT, torch.tensor(Schedule.linear().alpha_bar[400]).float()
    noised = alpha_bar.sqrt() * X + (1 - alpha_bar).sqrt() * noise
    made = prior(to_target(X, noise, alpha_bar, prediction), prediction)
    torch.testing.assert_close(made.estimate(noised, torch.tensor([400, 400])).x0, X, atol=1e-4, rtol=1e-4)


def test_a_learned_variance_is_the_last_three_channels() -> None:
    estimate = prior(torch.cat([OUTPUT, FRACTION], 1), "sample", "learned_range").estimate(X, torch.tensor([5, 5]))
    torch.testing.assert_close(estimate.x0, OUTPUT)
    torch.testing.assert_close(estimate.fraction, FRACTION)


class Draws:
    """Noise of one face, by purpose and timestep."""

    def draw(self, purpose: str, timestep: int, shape: tuple[int, ...]) -> Tensor:
        seed = timestep + {"start": 0, "reverse": 1000, "refine": 2000}[purpose]
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variance", get_args(Variance))
def test_a_reverse_step_has_the_published_variance(variance: Variance) -> None:
    """x_j ~ N(mean, variance) with the posterior's mean, then the low frequencies of y_j. The variance is the
    posterior's (fixed small), beta (fixed large), or between their logarithms (Nichol and Dhariwal 2021, Eq. 15)."""
    face, n, i, j = X[0].clamp(-1, 1), 4, 60, 56
    learned = variance == "learned_range"
    x0, seen = 0.5 * FRACTION[0], list[Tensor]()
    made = prior(torch.cat([x0, FRACTION[1]])[None] if learned else x0[None], "sample", variance)
    ask = made.estimate

    def estimate(x: Tensor, timesteps: Tensor) -> Any:
        seen.append(x[0])
        return ask(x, timesteps)

    made.estimate = estimate  # type: ignore[method-assign]
    schedule = made.schedule.respaced(100)
    walk = Walk(Trajectory(face, Draws(), n, (i, j), frozenset([j])))
    Engine(made, schedule, slots=1, batch=1).run([walk])

    t_i, t_j = (int(schedule.timesteps[step]) for step in (i, j))
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    now, before = alpha_bar[t_i], alpha_bar[t_j]
    beta = 1 - now / before
    start = np.sqrt(now) * face + np.sqrt(1 - now) * Draws().draw("start", t_i, face.shape)
    torch.testing.assert_close(seen[0], start.float(), atol=1e-5, rtol=0)
    mean = np.sqrt(before) * beta / (1 - now) * x0 + np.sqrt(1 - beta) * (1 - before) / (1 - now) * start
    small, large = beta * (1 - before) / (1 - now), beta
    between = (FRACTION[1].double() + 1) / 2
    deviation = {
        "fixed_small": torch.tensor(small).sqrt(),
        "fixed_large": torch.tensor(large).sqrt(),
        "learned_range": (0.5 * (between * np.log(large) + (1 - between) * np.log(small))).exp(),
    }[variance]
    moved = mean + deviation * Draws().draw("reverse", t_i, face.shape)
    y = np.sqrt(before) * face + np.sqrt(1 - before) * Draws().draw("refine", t_j, face.shape)
    expected = moved.float() + low_pass((y - moved).float()[None], low_pass_matrix(SIZE, n))[0]
    torch.testing.assert_close(seen[1], expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(walk.found[j], x0)
