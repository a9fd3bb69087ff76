"""SwinIR as DiffBIR has it removes degradation in DR2's place.

The numbers were put out by the published implementation (XPixelGroup/DiffBIR) in float32 on a CPU, with weights and
inputs drawn as in `published`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from swinirs import FULL, SMALL, checkpoint
from torch import Tensor

from operators.enhance.adapter import NetworkEnhancer
from operators.quality.niqe import Niqe
from operators.restoration import unit_range
from operators.swinir_remover import SwinIRRemover, face_size
from operators.training.weights import WeightsError

pytest.importorskip("spandrel")

OUTPUTS: dict[str, list[list[float]]] = json.loads(
    (Path(__file__).parents[1] / "data" / "published_outputs.json").read_text()
)


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    return checkpoint(SMALL)


@pytest.fixture(scope="module")
def niqe() -> Niqe:
    return Niqe.load("builtin")


@pytest.fixture
def remover(tmp_path: Path, small: dict[str, Tensor], niqe: Niqe) -> SwinIRRemover:
    return SwinIRRemover.load(published.save(tmp_path / "face_swinir_v1.ckpt", small, "state_dict"), niqe)


def noisy_faces(count: int, side: int = 128) -> list[np.ndarray]:
    return list(np.random.default_rng(3).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def grid(image: Any) -> Any:
    """(..., S, S) at the middles of 4 x 4 squares, flat."""
    step = image.shape[-1] // 4
    found = image[..., step // 2 :: step, step // 2 :: step]
    return found.reshape(*found.shape[:-2], -1)


def test_it_has_the_published_numbers(remover: SwinIRRemover) -> None:
    """For values in [0, 1]."""
    assert remover.size == 128
    assert isinstance(remover.cleaner, NetworkEnhancer)
    face = torch.tanh(torch.from_numpy(published.normal("input:face", (1, 3, 128, 128))))
    with torch.inference_mode():
        image = remover.cleaner.run((face + 1) / 2)[0]
    np.testing.assert_allclose(grid(image), OUTPUTS["SwinIR, 128 px"], atol=2e-4)
    assert remover.cleaner.descriptor.value_range == (0.0, 1.0)


def test_every_face_is_restored_and_scored(remover: SwinIRRemover, niqe: Niqe) -> None:
    crops, beats = noisy_faces(9), list[None]()
    removals = remover.remove(crops, [("photo", index) for index in range(9)], lambda: beats.append(None))
    assert len(beats) == 2
    assert remover.evaluations == 9
    assert {(one.status, one.n, one.tau, one.reason, one.evaluations) for one in removals} == {
        ("restored", None, None, "SwinIR", 1)
    }
    np.testing.assert_array_equal([one.niqe_in for one in removals], niqe.score(unit_range(crops)))
    images = [one.image for one in removals]
    np.testing.assert_array_equal([one.niqe_out for one in removals], niqe.score(unit_range(images)))
    (alone,) = remover.remove(crops[4:5], [("photo", 4)])
    np.testing.assert_array_equal(alone.image, images[4])
    assert not np.array_equal(alone.image, crops[4])


def test_no_faces_are_fine(remover: SwinIRRemover) -> None:
    assert remover.remove([], []) == []


def test_a_face_of_another_size_is_refused(remover: SwinIRRemover) -> None:
    with pytest.raises(ValueError, match=r"takes \(B, 128, 128, 3\) uint8"):
        remover.remove(noisy_faces(1, 64), [("photo", 0)])


def test_the_file_tells_the_size_of_its_faces(tmp_path: Path, small: dict[str, Tensor]) -> None:
    assert face_size(published.save(tmp_path / "s.ckpt", {f"module.{k}": v for k, v in small.items()})) == 128


def test_what_is_no_remover_is_refused(tmp_path: Path, small: dict[str, Tensor], niqe: Niqe) -> None:
    larger = {key: value for key, value in small.items() if not key.startswith("conv_first.1")}
    larger |= {"conv_first.weight": torch.zeros(24, 3, 3, 3), "conv_first.bias": torch.zeros(24)}
    no_mask = {key: value for key, value in small.items() if not key.endswith("attn_mask")}
    cut = {key: value for key, value in small.items() if key != "conv_last.weight"}
    page = tmp_path / "page.ckpt"
    page.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    for path, message in [
        (published.save(tmp_path / "other.pth", {"x": torch.zeros(1)}), "is no SwinIR, .* its tensors are called x"),
        (published.save(tmp_path / "x8.pth", larger), "it enlarges images 8 times"),
        (published.save(tmp_path / "mask.pth", no_mask), "the tensor .*attn_mask.* is missing"),
        (published.save(tmp_path / "cut.pth", cut), "looks like SwinIR, but is of a size or version"),
        (page, "is a web page and no weights"),
        (tmp_path / "gone.ckpt", "weights not found"),
    ]:
        with pytest.raises(WeightsError, match=message) as caught:
            SwinIRRemover.load(path, niqe)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_published_size_has_the_published_numbers(tmp_path: Path, niqe: Niqe) -> None:
    path = published.save(tmp_path / "face_swinir_v1.ckpt", checkpoint(FULL), "state_dict")
    assert face_size(path) == 512
    started = time.perf_counter()
    remover = SwinIRRemover.load(path, niqe)
    loaded = time.perf_counter()
    noise = published.normal("input:face", (1, 512, 512, 3))
    image = remover.cleaner.enhance(np.clip(128 + 50 * noise, 0, 255).astype(np.uint8))[0]
    print(f"\nSwinIR: loaded in {loaded - started:.1f} s, one face in {time.perf_counter() - loaded:.1f} s", end=" ")
    assert np.abs(grid(image.transpose(2, 0, 1)).astype(int) - OUTPUTS["SwinIR"]).max() <= 2
