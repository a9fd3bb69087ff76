"""What a GPU does: the same faces as the CPU, to rounding, and the same bits whatever is beside them.

pytest -m gpu tests/operators/test_gpu.py
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from operators.dr2.engine import Engine, Trajectory
from operators.dr2.noise import FaceNoise, draws
from operators.dr2.prior import Precision, Prior, PriorSpec
from operators.dr2.recorded import Recorded, compiled
from operators.dr2.sampler import Walk
from operators.dr2.schedule import Schedule
from operators.dr2.unet import UNet2DModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

SIZE = 32
STEPS = Schedule.linear().respaced(100)
FACES = torch.tanh(torch.randn(12, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)))


def tiny(device: str, precision: Precision) -> Prior:
    torch.manual_seed(3)
    network = UNet2DModel(
        sample_size=SIZE, in_channels=3, out_channels=3, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=8,
    )  # fmt: skip
    spec = PriorSpec(SIZE, prediction="v_prediction")
    return Prior(
        network, spec, Schedule.linear(), name="tiny", licence="", fingerprint="", device=device, precision=precision
    )


@pytest.fixture(scope="module")
def prior() -> Prior:
    return tiny("cuda", "bfloat16")


def walks() -> list[Walk]:
    """Twelve faces on twelve ways."""
    result = []
    for number, face in enumerate(FACES):
        steps = tuple(range(20 + number, 12, -1 - number % 3))
        noise = FaceNoise(7, f"photo-{number}", 0)
        result.append(Walk(Trajectory(face, noise, 2 ** (number % 4), steps, frozenset(steps))))
    return result


def found(walks: list[Walk]) -> list[Tensor]:
    return [torch.stack([walk.found[step] for step in sorted(walk.found)]) for walk in walks]


def test_it_draws_what_numpy_draws() -> None:
    noise = [FaceNoise(3, f"photo-{number}", number) for number in range(5)]
    timesteps, shape = [10, 990, 0, 500, 10], (3, 40, 40)
    there = draws(noise, "refine", timesteps, shape, torch.device("cuda")).cpu()
    here = draws(noise, "refine", timesteps, shape, torch.device("cpu"))
    torch.testing.assert_close(there, here, atol=5e-6, rtol=0)


def test_a_face_is_the_same_to_the_bit_whatever_is_in_the_other_slots(prior: Prior) -> None:
    alone = walks()
    for walk in alone:
        Engine(prior, STEPS, slots=1).run([walk])
    for slots in (5, 16, 32):
        mixed = walks()
        order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(slots)).tolist()
        Engine(prior, STEPS, slots).run([mixed[number] for number in order])
        for one, other in zip(found(mixed), found(alone), strict=True):
            assert torch.equal(one, other)


def test_it_agrees_with_the_cpu(prior: Prior) -> None:
    here, there, rounded = walks(), walks(), walks()
    Engine(tiny("cpu", "float32"), STEPS, slots=16).run(here)
    Engine(tiny("cuda", "float32"), STEPS, slots=16).run(there)
    Engine(prior, STEPS, slots=16).run(rounded)
    for cpu, gpu, bfloat16 in zip(found(here), found(there), found(rounded), strict=True):
        assert (cpu - gpu).abs().mean() < 2e-3  # convolutions round to TF32
        assert (cpu - bfloat16).abs().mean() < 2e-2


def test_what_a_recording_gives_is_not_overwritten() -> None:
    x = torch.rand(8, device="cuda")
    double = Recorded(compiled(lambda x: 2 * x), x)
    first = double(x)
    second = double(x + 1)
    torch.testing.assert_close(first, 2 * x)
    torch.testing.assert_close(second, 2 * x + 2)
