"""What a chain promises: order, batch and neighbours do not matter; one trajectory serves every tau."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DModel

from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.noise import FaceNoise, counted, draws
from operators.dr2.norms import ChannelsLastGroupNorm, with_channels_last_norms
from operators.dr2.prior import Prior, PriorSpec, forward
from operators.dr2.recorded import compiled
from operators.dr2.sampler import sample, start_step, visited
from operators.dr2.schedule import Schedule

SIZE = 32
STEPS = Schedule.linear().respaced(100)


@pytest.fixture(scope="module")
def prior() -> Prior:
    torch.manual_seed(3)
    network = UNet2DModel(
        sample_size=SIZE // 2, in_channels=12, out_channels=12, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=8, resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    spec = PriorSpec(SIZE, "v_prediction", patch=2, max_timestep=700)
    return Prior(network, spec, Schedule.linear(), name="tiny", licence="", fingerprint="", precision="float32")


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return torch.tanh(torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)))


def noises(count: int) -> list[FaceNoise]:
    return [FaceNoise(7, f"photo-{i}", i) for i in range(count)]


def test_a_face_does_not_depend_on_its_batch(prior: Prior, faces: torch.Tensor) -> None:
    chain = {"n": 4, "omega": 14, "taus": [6]}
    together = sample(prior, STEPS, faces, noise=noises(4), **chain)[6]
    order = [2, 0, 3, 1]
    shuffled = sample(prior, STEPS, faces[order], noise=[noises(4)[i] for i in order], **chain)[6]
    alone = torch.cat([sample(prior, STEPS, faces[i : i + 1], noise=[noises(4)[i]], **chain)[6] for i in range(4)])
    assert torch.equal(shuffled, together[order])
    assert torch.equal(alone, together)


def test_scales_can_be_mixed_in_a_batch(prior: Prior, faces: torch.Tensor) -> None:
    mixed = sample(prior, STEPS, faces[:2], n=[2, 8], omega=12, taus=[4], noise=noises(2))[4]
    for i, n in enumerate((2, 8)):
        alone = sample(prior, STEPS, faces[i : i + 1], n=n, omega=12, taus=[4], noise=noises(2)[i : i + 1])[4]
        assert torch.equal(mixed[i : i + 1], alone)


def test_one_trajectory_serves_every_tau(prior: Prior, faces: torch.Tensor) -> None:
    every = sample(prior, STEPS, faces, n=4, omega=14, taus=[10, 6, 3], noise=noises(4))
    for tau in (10, 6, 3):
        single = sample(prior, STEPS, faces, n=4, omega=14, taus=[tau], noise=noises(4))[tau]
        assert torch.equal(every[tau], single)


def test_repeats_to_the_bit_and_follows_the_seed(prior: Prior, faces: torch.Tensor) -> None:
    def run(seed: int) -> torch.Tensor:
        noise = [FaceNoise(seed, "photo", 0)]
        return sample(prior, STEPS, faces[:1], n=4, omega=12, taus=[5], noise=noise)[5]

    assert torch.equal(run(1), run(1))
    assert not torch.allclose(run(1), run(2), atol=1e-2)


def test_low_frequencies_follow_the_input(prior: Prior, faces: torch.Tensor) -> None:
    """However bad the prior, low frequencies of x_hat at tau = 0 are those of y but for the last step's noise."""
    smooth = low_pass(faces, low_pass_matrix(SIZE, 8))
    for n in (2, 4):
        result = sample(prior, STEPS, smooth, n=n, omega=10, taus=[0], noise=noises(4))[0]
        matrix = low_pass_matrix(SIZE, n)
        apart = (low_pass(result, matrix) - low_pass(smooth, matrix)).abs().mean()
        assert apart < 0.25 * low_pass(smooth, matrix).abs().mean()


def test_draws_are_addressed() -> None:
    noise, shape = FaceNoise(0, "a", 0), (3, 8, 8)
    first = noise.draw("reverse", 100, shape)
    noise.draw("refine", 90, shape)
    assert torch.equal(first, noise.draw("reverse", 100, shape))
    others = [
        noise.draw("refine", 100, shape),
        noise.draw("reverse", 110, shape),
        FaceNoise(1, "a", 0).draw("reverse", 100, shape),
        FaceNoise(0, "b", 0).draw("reverse", 100, shape),
        FaceNoise(0, "a", 1).draw("reverse", 100, shape),
    ]
    assert not any(torch.equal(first, other) for other in others)
    many = noise.draw("start", 500, (3, 128, 128))
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 5, 5), (3, 64, 64)])
def test_what_a_gpu_computes_is_what_numpy_draws(shape: tuple[int, ...]) -> None:
    """The same operations, here on the CPU: every bit of Philox, whose counter NumPy raises before it draws."""
    count, noise = math.prod(shape), noises(3)
    addresses = torch.tensor([[*source.key, timestep, 2] for source, timestep in zip(noise, (0, 10, 990), strict=True)])
    computed = counted(addresses, torch.arange(1, count // 8 + 2), count).reshape(3, *shape)
    drawn = draws(noise, "refine", [0, 10, 990], shape, torch.device("cpu"))
    torch.testing.assert_close(computed, drawn, atol=1e-6, rtol=0)
    assert torch.unique(drawn).numel() > 0.99 * drawn.numel()


def test_what_cannot_be_compiled_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile_badly(function: object, **options: object) -> Callable[[torch.Tensor], torch.Tensor]:
        def run(x: torch.Tensor) -> torch.Tensor:
            raise torch._dynamo.exc.TorchDynamoException("no kernel")

        return run

    monkeypatch.setattr("operators.dr2.recorded._missing", lambda: None)
    monkeypatch.setattr(torch, "compile", compile_badly)
    double = compiled(lambda x: 2 * x)
    with caplog.at_level(logging.WARNING):
        assert [float(double(torch.tensor(value))) for value in (1.0, 2.0)] == [2.0, 4.0]
    assert caplog.text.count("no kernel") == 1
    monkeypatch.setattr("operators.dr2.recorded._missing", lambda: "there is no C compiler")
    assert float(compiled(lambda x: 3 * x)(torch.tensor(1.0))) == 3.0


def test_normalisation_does_not_care_how_channels_lie() -> None:
    generator = torch.Generator().manual_seed(1)
    norm = torch.nn.GroupNorm(4, 12)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    ours = ChannelsLastGroupNorm(norm)
    for shape in ((2, 12, 9, 5), (2, 12, 7)):
        x = 3 * torch.randn(shape, generator=generator) + 2
        torch.testing.assert_close(ours(x), norm(x), atol=1e-5, rtol=1e-5)
        assert ours(x.bfloat16()).dtype == torch.bfloat16
    image = torch.randn(2, 12, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
    assert ours(image).is_contiguous(memory_format=torch.channels_last)


def test_a_network_keeps_its_output_with_other_norms(prior: Prior, faces: torch.Tensor) -> None:
    network, timesteps = copy.deepcopy(prior.network), torch.tensor([10, 20, 30, 40])
    expected = forward(network, faces, timesteps, 2)
    with_channels_last_norms(network)
    assert not [module for module in network.modules() if isinstance(module, torch.nn.GroupNorm)]
    torch.testing.assert_close(forward(network, faces, timesteps, 2), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("n", "margin"), [(1, 5), (2, 10), (4, 20), (8, 25), (16, 30)])
def test_start_step_is_the_published_margin(n: int, margin: int) -> None:
    assert start_step(n, 8, 100) == 8 + margin
    assert start_step(n, 95, 100) == 99
    assert start_step(n, 4, 50) == 4 + round(margin / 2)
    assert len(visited(start_step(n, 8, 100), [8])) == margin + 1


@pytest.mark.parametrize("taus", [[], [15], [-1]])
def test_impossible_chains_are_refused(prior: Prior, faces: torch.Tensor, taus: list[int]) -> None:
    with pytest.raises(ValueError, match="tau"):
        sample(prior, STEPS, faces[:1], n=4, omega=14, taus=taus, noise=noises(1))


def test_a_timestep_the_prior_never_saw_is_refused(prior: Prior, faces: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="trained below timestep 700"):
        sample(prior, STEPS, faces[:1], n=4, omega=80, taus=[60], noise=noises(1))


def test_low_pass_needs_a_divisor() -> None:
    with pytest.raises(ValueError, match="must divide"):
        low_pass_matrix(128, 3)


def test_a_stride_skips_steps_but_no_tau() -> None:
    assert visited(12, [9, 4]) == (12, 11, 10, 9, 8, 7, 6, 5, 4)
    assert visited(28, [4, 8, 16], 4) == (28, 24, 20, 16, 12, 8, 4)
    assert visited(28, [5, 17], 10) == (28, 18, 17, 7, 5)
    assert visited(7, [7], 4) == (7,)
    for taus, stride in (([], 4), ([30], 4), ([-1], 4), ([3], 0)):
        with pytest.raises(ValueError, match="need taus"):
            visited(28, taus, stride)
