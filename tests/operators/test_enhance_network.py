import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from operators.enhance.network import FaceEnhancer, NetworkConfig, enlarge

TINY = NetworkConfig(widths=(8, 8, 8), blocks=(1, 1, 1), detail=4)


def faces(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def trained(config: NetworkConfig = TINY) -> FaceEnhancer:
    """A network whose residual is not zero."""
    torch.manual_seed(0)
    network = FaceEnhancer(config).eval().requires_grad_(False)
    torch.nn.init.normal_(network.to_rgb.weight, std=0.1)
    return network


def test_an_untrained_network_is_the_bicubic_enlargement() -> None:
    batch = faces(2)
    torch.testing.assert_close(FaceEnhancer(TINY)(batch), enlarge(batch), rtol=0, atol=0)


def test_a_face_does_not_depend_on_its_batch() -> None:
    network, batch = trained(), faces(3)
    together = network(batch)
    assert (together - enlarge(batch)).abs().max() > 0.01
    for index in range(3):
        torch.testing.assert_close(network(batch[index : index + 1])[0], together[index], rtol=1e-4, atol=1e-5)


def test_every_parameter_learns() -> None:
    network = trained().requires_grad_(True)
    network(faces(1)).square().mean().backward()
    silent = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


def test_the_default_is_small_and_cheap() -> None:
    network = FaceEnhancer()
    assert 2e6 < sum(value.numel() for value in network.parameters()) < 3e6
    with FlopCounterMode(display=False) as counter:
        network(faces(1, 128))
    assert counter.get_total_flops() / 2 < 1.3e9  # multiply-accumulates per face


@pytest.mark.parametrize("shape", [(40, 32), (32, 8), (0, 16)])
def test_sides_it_cannot_halve_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        FaceEnhancer(TINY)(torch.zeros(1, 3, *shape))


def test_a_level_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NetworkConfig(widths=(8, 0, 8), blocks=(1, 1, 1))


def test_every_level_needs_its_count_of_blocks() -> None:
    with pytest.raises(ValueError, match="as many widths"):
        NetworkConfig(widths=(8, 8), blocks=(1, 1, 1))
