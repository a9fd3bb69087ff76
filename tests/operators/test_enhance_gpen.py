"""GPEN from its published layout, held against the published implementation's numbers on seeded weights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import GOLDEN, of_gpen
from published import faces, layout, normal, save
from torch import Tensor

from operators.enhance import registry
from operators.enhance.adapter import from_network
from operators.enhance.contract import Enhancer, Options
from operators.enhance.gpen import network_of
from operators.training.weights import WeightsError

SMALL = layout(GOLDEN, "gpen_small")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network for 64 px, as it is published: bare."""
    return save(tmp_path_factory.mktemp("gpen") / "GPEN-BFR-512.pth", of_gpen(SMALL))


@pytest.fixture(scope="module")
def enhancer(path: Path) -> Enhancer:
    return registry.load(path)


@torch.inference_mode()
def test_it_has_the_published_numbers() -> None:
    network, sizes = network_of(of_gpen(SMALL))
    assert (sizes.size, sizes.channels) == (64, [32, 32, 32, 32, 16])
    out = network(torch.tanh(torch.from_numpy(normal("input:face", (2, 3, 64, 64)))))
    np.testing.assert_allclose(out[..., ::4, ::4].numpy(), GOLDEN["gpen_small_out"], atol=1e-5)


@pytest.mark.parametrize(("size", "parameters"), [(256, 18_879_010), (512, 71_005_223)])
def test_the_published_file_is_what_is_built(size: int, parameters: int) -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in layout(GOLDEN, f"gpen_{size}").items()}
    network, sizes = network_of(state)
    assert sizes.size == size
    assert sum(value.numel() for value in network.parameters()) == parameters


def test_the_descriptor(enhancer: Enhancer) -> None:
    facts = enhancer.descriptor
    assert (facts.architecture, facts.name) == ("GPEN", "GPEN-BFR-512.pth")
    assert facts.input_size == facts.output_size == 64
    assert facts.fidelity is None
    assert facts.memory > 0


def test_what_training_saves_loads_by_its_average(tmp_path: Path, enhancer: Enhancer) -> None:
    average, last = of_gpen(SMALL), {key: torch.zeros(shape) for key, shape in SMALL.items()}
    path = tmp_path / "030000.pth"
    torch.save({"g": last, "d": last, "g_ema": average}, path)
    np.testing.assert_array_equal(registry.load(path).enhance(faces(1, 64)), enhancer.enhance(faces(1, 64)))


def test_alone_and_in_a_batch_and_again(enhancer: Enhancer) -> None:
    batch = faces(3, 64)
    together = enhancer.enhance(batch)
    np.testing.assert_array_equal(enhancer.enhance(batch[2:]), together[2:])
    assert (together[0] != together[1]).any()


def test_grey_stays_grey(enhancer: Enhancer) -> None:
    grey = enhancer.enhance(faces(1, 64)[..., :1].repeat(3, axis=-1))
    assert (grey == grey[..., :1]).all()
    assert grey.std() > 1


def test_bfloat16_is_near(path: Path, enhancer: Enhancer) -> None:
    batch = faces(2, 64)
    near = registry.load(path, options=Options(precision="bfloat16")).enhance(batch).astype(float)
    assert 0 < np.abs(near - enhancer.enhance(batch)).mean() < 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"generator.conv1.conv.weight": None}, "generator.conv1.conv.weight is missing"),
        ({"generator.noises": torch.zeros(1)}, "Unexpected key"),
        ({"generator.convs.3.activate.bias": torch.zeros(16)}, "size mismatch for generator.convs.3.activate.bias"),
        ({"ecd5.0.2.bias": torch.zeros(32)}, "takes faces of 128 px and returns 64 px"),
    ],
)
def test_another_file_is_refused_in_a_line(change: dict[str, Tensor | None], reason: str, tmp_path: Path) -> None:
    changed = {key: value for key, value in (of_gpen(SMALL) | change).items() if value is not None}
    path = save(tmp_path / "other.pth", changed)
    with pytest.raises(WeightsError, match=reason) as refused:
        registry.load(path)
    assert str(refused.value).startswith(f"{path} looks like GPEN")
    assert "\n" not in str(refused.value)


def test_its_discriminator_is_no_enhancer(tmp_path: Path) -> None:
    path = save(tmp_path / "GPEN-BFR-512-D.pth", {"convs.0.0.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="no enhancer that is known here"):
        registry.load(path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("size", [256, 512])
def test_a_face_of_full_size(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enhancer = registry.load(save(tmp_path / "gpen.pth", of_gpen(layout(GOLDEN, f"gpen_{size}"))))
    start = time.monotonic()
    enhanced = enhancer.enhance(faces(1, size))
    with capsys.disabled():
        print(f"\nGPEN, {size} px: {time.monotonic() - start:.1f} s")
    expected = from_network(torch.from_numpy(GOLDEN[f"gpen_{size}_out"])).astype(int)
    assert np.abs(enhanced[:, ::16, ::16] - expected).max() <= 1
    assert expected.std() > 30
