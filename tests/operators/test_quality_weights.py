"""LPIPS, FID and ArcFace from local files: random weights in the published layouts, and no way to the network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from operators.quality.metrics import fid
from operators.quality.metrics.arcface import ArcFace
from operators.quality.metrics.fid import Inception, frechet_distance
from operators.quality.metrics.lpips import Lpips
from operators.quality.metrics.names import ARCFACE, FID_INCEPTION, LPIPS_BACKBONE, LPIPS_HEADS
from operators.quality.metrics.state import read_state
from operators.training.weights import WeightsError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("a metric went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def faces() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)


def random_weights(build: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
    """Seeded weights for a network, scaled so that activations neither vanish nor explode."""
    torch.manual_seed(0)
    with torch.device("meta"):
        network = build()
    network.to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.PReLU):
            nn.init.constant_(layer.weight, 0.25)
        elif hasattr(layer, "reset_running_stats"):
            layer.reset_parameters()
    return network.state_dict()


def save_lpips(folder: Path) -> None:
    from torchvision.models import alexnet

    state = random_weights(lambda: alexnet(weights=None).features)
    features = {f"features.{name}": value for name, value in state.items()}
    torch.save(features | {"classifier.6.bias": torch.zeros(1000)}, folder / LPIPS_BACKBONE.name)
    channels = (64, 192, 384, 256, 256)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(channels)}
    torch.save(heads, folder / LPIPS_HEADS.name)


def test_lpips_is_that_of_pyiqa(tmp_path: Path, faces: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch):
    import torchvision.models
    from pyiqa.archs import lpips_arch

    save_lpips(tmp_path)
    ours = Lpips(tmp_path)
    build = torchvision.models.alexnet
    monkeypatch.setattr(lpips_arch.models, "alexnet", lambda weights: build(weights=None))
    theirs = lpips_arch.LPIPS(pretrained=False)
    theirs.load_state_dict(torch.load(tmp_path / LPIPS_HEADS.name), strict=False)
    layers = [layer for piece in theirs.net.children() for layer in piece]
    for layer, source in zip(layers, ours.network, strict=True):
        layer.load_state_dict(source.state_dict())
    x, y = (torch.from_numpy(face[None]).permute(0, 3, 1, 2).float() / 255 for face in faces)
    with torch.no_grad():
        expected = theirs(x, y).item()
    assert ours.distance(faces[:1], faces[1:]) == pytest.approx([expected], rel=1e-4)
    assert ours.distance(faces, faces) == pytest.approx([0, 0])


def test_inception_loads_by_name_and_gives_2048_features(tmp_path: Path, faces: NDArray[np.uint8]):
    torch.save(random_weights(fid._network), tmp_path / FID_INCEPTION.name)
    features = Inception(tmp_path).features(faces)
    assert features.shape == (2, 2048)
    assert features.std() > 0
    assert not np.allclose(features[0], features[1])


def test_arcface_sees_no_angle_between_equal_faces(tmp_path: Path, faces: NDArray[np.uint8]):
    from facexlib.recognition.arcface_arch import Backbone

    state = random_weights(lambda: Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se"))
    torch.save(state, tmp_path / ARCFACE.name)
    arcface = ArcFace(tmp_path)
    angles = arcface.angle(faces[[0, 0]], faces)
    assert angles[0] == pytest.approx(0, abs=0.1)
    assert 0.5 < angles[1] <= 180


def test_broken_files_are_named(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"not found.*alexnet"):
        Lpips(tmp_path)
    (tmp_path / FID_INCEPTION.name).write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"not a PyTorch state dict.*pt_inception"):
        Inception(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / FID_INCEPTION.name)
    with pytest.raises(WeightsError, match=r"pt_inception.*other weights"):
        Inception(tmp_path)
    save_lpips(tmp_path)
    torch.save({}, tmp_path / LPIPS_HEADS.name)
    with pytest.raises(WeightsError, match=r"lacks 'lin0"):
        Lpips(tmp_path)


def test_a_file_cannot_bring_code(tmp_path: Path):
    torch.save({"weight": Path("anything but a tensor")}, tmp_path / "file.pth")
    with pytest.raises(WeightsError, match="not a PyTorch state dict"):
        read_state(tmp_path / "file.pth")


def test_frechet_distance_in_closed_form():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, 6))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a + 3, a) == pytest.approx(6 * 9)
    # Of one Gaussian scaled by 2 about its mean: Tr(C + 4 C - 2 * 2 C) = Tr C.
    doubled = 2 * (a - a.mean(axis=0)) + a.mean(axis=0)
    assert frechet_distance(doubled, a) == pytest.approx(np.trace(np.cov(a, rowvar=False)))


@pytest.mark.parametrize("rows", [(40, 60), (4, 60), (3, 5)])
def test_frechet_distance_is_the_one_with_a_matrix_root(rows):
    """The definition, by eigenvalues; also with fewer faces than features."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(rows[0], 8)), 1.5 * rng.normal(size=(rows[1], 8)) + 0.3
    c_a, c_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(c_a @ c_b).real.clip(0)).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c_a) + np.trace(c_b) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_one_face_has_no_distribution():
    with pytest.raises(ValueError, match="two faces"):
        frechet_distance(np.zeros((1, 4)), np.zeros((9, 4)))
