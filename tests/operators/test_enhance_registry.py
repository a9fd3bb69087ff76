from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from operators.enhance import registry
from operators.enhance.adapter import from_network, to_network
from operators.enhance.builtin import BuiltinEnhancer, save_enhancer
from operators.enhance.network import FaceEnhancer, NetworkConfig
from operators.training.weights import WeightsError, save_weights, sha256_file

CONFIG = NetworkConfig(widths=(8, 8, 8), blocks=(1, 1, 1), detail=4)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small enhancer 32 -> 64 px with random weights."""
    torch.manual_seed(1)
    network = FaceEnhancer(CONFIG)
    torch.nn.init.normal_(network.to_rgb.weight, std=0.1)
    path = tmp_path / "small.safetensors"
    save_enhancer(
        path,
        network.state_dict(),
        CONFIG,
        name="small",
        licence="Apache-2.0",
        input_size=32,
        training={"steps": 0},
    )
    return path


def faces(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_a_file_describes_itself(weights: Path) -> None:
    enhancer = registry.load(str(weights))
    assert (enhancer.name, enhancer.licence) == ("small", "Apache-2.0")
    assert (enhancer.input_size, enhancer.output_size) == (32, 64)
    assert enhancer.fingerprint == sha256_file(weights)
    assert enhancer.descriptor.value_range == (-1.0, 1.0)


def test_a_face_has_the_same_bytes_in_any_batch(weights: Path) -> None:
    enhancer, batch = registry.load(weights), faces(5)
    together = enhancer.enhance(batch)
    assert together.shape == (5, 64, 64, 3)
    assert together.dtype == np.uint8
    alone = np.concatenate([enhancer.enhance(face[None]) for face in batch[::-1]])[::-1]
    np.testing.assert_array_equal(alone, together)


def test_padding_a_batch_changes_no_face(weights: Path) -> None:
    single, batch = BuiltinEnhancer(weights), faces(3)
    padded = BuiltinEnhancer(weights)
    padded._batch = 4  # what a GPU does with 16
    difference = padded.enhance(batch).astype(int) - single.enhance(batch)
    assert np.abs(difference).max() <= 1


def test_no_faces_are_fine(weights: Path) -> None:
    assert registry.load(weights).enhance(faces(0)).shape == (0, 64, 64, 3)
    assert registry.load("none").enhance(faces(0, 128)).shape == (0, 256, 256, 3)


def test_none_is_bicubic_and_says_so() -> None:
    enhancer, batch = registry.load("none"), faces(2, 128)
    assert enhancer.name == "bicubic"
    expected = Image.fromarray(batch[1]).resize((256, 256), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(enhancer.enhance(batch)[1], np.asarray(expected))


@pytest.mark.parametrize("wrong", [faces(1, 48), faces(1)[0], faces(1).astype(np.float32)])
def test_other_shapes_and_types_are_refused(weights: Path, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"small takes \(B, 32, 32, 3\) uint8"):
        registry.load(weights).enhance(wrong)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(registry.UnknownEnhancer, match=r"'gfpgan'.*builtin, none or the path"):
        registry.load("gfpgan")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not found.*gone\.safetensors"):
        registry.load(tmp_path / "gone.safetensors")


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    save_weights(path, {"x": torch.zeros(1)}, {"kind": "prior"})
    with pytest.raises(WeightsError, match="'enhancer' model is needed"):
        registry.load(path)


@pytest.mark.parametrize("damage", [{"network": {"width": 3}}, {"network": {"widths": [8, 8]}}, {"input_size": "x"}])
def test_a_description_it_cannot_build_is_refused(weights: Path, damage: dict[str, object]) -> None:
    description = {
        "kind": "enhancer", "name": "n", "licence": "l", "input_size": 32,
        "network": {"widths": [8, 8, 8], "middle": 1, "detail": 4},
    } | damage  # fmt: skip
    save_weights(weights, FaceEnhancer(CONFIG).state_dict(), description)
    with pytest.raises(WeightsError, match="does not hold an enhancer this version can build"):
        registry.load(weights)


def test_uint8_survives_the_way_to_the_network_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(from_network(to_network(levels)), levels)
