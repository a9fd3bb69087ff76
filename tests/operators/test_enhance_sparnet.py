"""SPARNetHD from its published layout, held against the published implementation's numbers on seeded weights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import GOLDEN, fainter, of_sparnet
from published import faces, layout, normal, save, seeded
from torch import Tensor

from operators.enhance import registry
from operators.enhance.adapter import from_network
from operators.enhance.contract import Enhancer, Identity, Options
from operators.enhance.sparnet import fold, network_of
from operators.training.weights import WeightsError

SMALL = layout(GOLDEN, "sparnethd_64")
PUBLISHED = layout(GOLDEN, "sparnethd_512")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The small network; its singular vectors, as power iteration left them, come with the golden numbers."""
    drawn, vectors = seeded(SMALL), torch.from_numpy(GOLDEN["sparnethd_64_vectors"])
    spectral = [key for key in SMALL if key.endswith(("weight_u", "weight_v"))]
    for key, vector in zip(spectral, vectors.split([SMALL[key][0] for key in spectral]), strict=True):
        drawn[key] = vector
    return drawn


@pytest.fixture(scope="module")
def path(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("sparnet") / "SPARNetHD_V4_Attn2D_net_H-epoch10.pth", fainter(state))


@pytest.fixture(scope="module")
def enhancer(path: Path) -> Enhancer:
    return registry.load(path)


def test_it_has_the_published_numbers(state: dict[str, Tensor]) -> None:
    x = torch.tanh(torch.from_numpy(normal("input:sparnet", (2, 3, 64, 64))))
    with torch.inference_mode():
        out = network_of(state)(x)
    np.testing.assert_allclose(out[..., ::2, ::2].numpy(), GOLDEN["sparnethd_64_out"], atol=1e-4)


def test_the_published_file_is_what_is_built() -> None:
    network = network_of({key: torch.empty(shape, device="meta") for key, shape in PUBLISHED.items()})
    assert len(PUBLISHED) == 892
    assert sum(value.numel() for value in network.parameters()) == 85_793_412


def test_a_map_for_each_channel(state: dict[str, Tensor]) -> None:
    """As the published file with 3D attention has them."""
    channels = {key: SMALL[key.replace("att_func.out_block.0.conv2d.bias", "conv2.conv2d.weight_orig")][0]
                for key in SMALL if key.endswith("att_func.out_block.0.conv2d.bias")}  # fmt: skip
    folded = fold(state)
    for key, maps in channels.items():
        weight = key.replace("bias", "weight")
        folded[key], folded[weight] = folded[key].repeat(maps), folded[weight].repeat(maps, 1, 1, 1)
    x = torch.tanh(torch.from_numpy(normal("input:sparnet", (1, 3, 64, 64))))
    with torch.inference_mode():
        np.testing.assert_allclose(network_of(folded)(x), network_of(state)(x), atol=1e-4)


def test_the_descriptor(path: Path) -> None:
    facts = registry.load(path, identity=Identity("SPARNetHD", "CC-BY-NC-SA-4.0", "f" * 64)).descriptor
    assert (facts.architecture, facts.name, facts.licence) == ("SPARNetHD", "SPARNetHD", "CC-BY-NC-SA-4.0")
    assert facts.fingerprint == "f" * 64
    assert facts.input_size == facts.output_size == 128  # two halvings of the published four
    assert facts.fidelity is None
    assert facts.memory > 0


def test_a_folded_file_gives_the_same_bytes(state: dict[str, Tensor], enhancer: Enhancer, tmp_path: Path) -> None:
    folded = fold(fainter(state))
    assert not any(key.endswith(("_orig", "_u", "_v")) for key in folded)
    again = registry.load(save(tmp_path / "folded.pth", {f"module.{key}": value for key, value in folded.items()}))
    batch = faces(1, 128)
    np.testing.assert_array_equal(again.enhance(batch), enhancer.enhance(batch))


def test_alone_and_in_a_batch(enhancer: Enhancer) -> None:
    batch = faces(2, 128)
    together = enhancer.enhance(batch)
    np.testing.assert_array_equal(enhancer.enhance(batch[1:]), together[1:])
    assert (together[0] != together[1]).any()


def test_grey_stays_grey(enhancer: Enhancer) -> None:
    grey = enhancer.enhance(faces(1, 128)[..., :1].repeat(3, axis=-1))
    assert (grey == grey[..., :1]).all()
    assert grey.std() > 1


def test_bfloat16_is_near(path: Path, enhancer: Enhancer) -> None:
    batch = faces(1, 128)
    near = registry.load(path, options=Options(precision="bfloat16")).enhance(batch).astype(float)
    difference = np.abs(near - enhancer.enhance(batch))
    assert 0 < difference.mean() < 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"res_layers.0.conv1.conv2d.weight_u": None}, "res_layers.0.conv1.conv2d.weight_u is missing"),
        ({"res_layers.0.conv1.norm.norm.bias": None}, "res_layers.0.conv1.norm.norm.bias"),
        ({"out_conv.conv2d.bias": torch.zeros(4)}, "size mismatch for out_conv.conv2d.bias"),
        ({"encoder.1.conv1.norm.norm.running_mean": torch.zeros(20)}, "batch norms"),
        ({"decoder.2.conv1.conv2d.weight_orig": torch.zeros(4, 4, 3, 3)}, "is missing"),
    ],
)
def test_another_file_is_refused_in_a_line(
    state: dict[str, Tensor], change: dict[str, Tensor | None], reason: str, tmp_path: Path
) -> None:
    changed = {key: value for key, value in (state | change).items() if value is not None}
    path = save(tmp_path / "other.pth", changed)
    with pytest.raises(WeightsError, match=reason) as refused:
        registry.load(path)
    assert str(refused.value).startswith(f"{path} looks like SPARNetHD")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_face_of_512_px(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enhancer = registry.load(save(tmp_path / "sparnethd.pth", of_sparnet(PUBLISHED)))
    start = time.monotonic()
    enhanced = enhancer.enhance(faces(1, 512))
    with capsys.disabled():
        print(f"\nSPARNetHD, 512 px: {time.monotonic() - start:.1f} s")
    expected = from_network(torch.from_numpy(GOLDEN["sparnethd_512_out"])).astype(int)
    assert np.abs(enhanced[:, ::16, ::16] - expected).max() <= 1
    assert expected.std() > 30
