"""The numbers of the published DR2 code: low-pass filter, U-Net and sampling loop, on seeded weights and inputs.

The expected values in tests/data/golden.npz are outputs of the published implementation. Weights and
inputs are redrawn here from their names, so nothing but the outputs is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from published import DATA, normal, weight
from torch import Tensor

from operators.dr2.guided_diffusion import to_diffusers
from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.prior import Prior, PriorSpec
from operators.dr2.sampler import sample
from operators.dr2.schedule import Schedule

GOLDEN = np.load(DATA / "golden.npz")
CASES = {"a": (4, 8, 20, 26), "b": (8, 12, 24, 26), "c": (2, 4, 10, 14), "d": (1, 6, 9, 8)}


@pytest.fixture(scope="module")
def published_state() -> dict[str, Tensor]:
    """A seeded state dict in the guided-diffusion layout (channels 64, 128, 128; attention at the last level)."""
    keys = zip(GOLDEN["unet_keys"].tolist(), GOLDEN["unet_shapes"].tolist(), strict=True)
    return {key: weight(key, [int(side) for side in shape.split(",")]) for key, shape in keys}


@pytest.fixture(scope="module")
def prior(published_state: dict[str, Tensor]) -> Prior:
    network, learned = to_diffusers(published_state, 64)
    spec = PriorSpec(64, "epsilon", "learned_range" if learned else "fixed_small")
    return Prior(network, spec, Schedule.linear(), name="seeded", licence="", fingerprint="", precision="float32")


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_low_pass_filter(size: int, n: int) -> None:
    x = torch.from_numpy(normal(f"input:lowpass{size}", (1, 3, size, size)))
    y = low_pass(x, low_pass_matrix(size, n)).numpy()
    stored = GOLDEN[f"lowpass_{size}_{n}"]
    np.testing.assert_allclose(y[..., :: size // 32, :: size // 32], stored, atol=2e-6)


def test_unet_in_the_published_layout(prior: Prior) -> None:
    x = torch.from_numpy(normal("input:unet", (2, 3, 64, 64)))
    with torch.inference_mode():
        out = prior.network(x, torch.tensor([37, 612])).sample.numpy()
    np.testing.assert_allclose(out[..., ::2, ::2], GOLDEN["unet_out"], atol=1e-4)


def test_respaced_schedule() -> None:
    schedule = Schedule.linear().respaced(100)
    assert schedule.timesteps.tolist() == GOLDEN["timestep_map"].tolist()
    np.testing.assert_allclose(schedule.betas, GOLDEN["betas"], rtol=1e-12)


class CountedNoise:
    """The published order of draws: start noise, then per step the reverse noise and the refinement noise."""

    def __init__(self, tag: str) -> None:
        self.tag, self.count = tag, 0

    def draw(self, purpose: str, timestep: int, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.from_numpy(normal(f"input:noise:{self.tag}:{self.count}", (1, *shape)))[0]
        self.count += 1
        return drawn


@pytest.mark.parametrize("tag", CASES)
def test_sampler(prior: Prior, tag: str) -> None:
    n, tau, omega, draws = CASES[tag]
    face = torch.tanh(torch.from_numpy(normal(f"input:face:{tag}", (1, 3, 64, 64))))
    noise = CountedNoise(tag)
    settings: dict[str, Any] = {"n": n, "omega": omega, "taus": [tau], "noise": [noise]}
    x0 = sample(prior, Schedule.linear().respaced(100), face, **settings)[tau].numpy()
    np.testing.assert_allclose(x0[..., ::2, ::2], GOLDEN[f"x0_{tag}"], atol=1e-4)
    # The published loop draws once more at tau, where the noise is not used.
    assert noise.count == draws - 1
