"""GFPGAN, RestoreFormer and CodeFormer load from files as published, and give the numbers of the published code.

The numbers were put out by the published implementations (TencentARC/GFPGAN, wzhouxiff/RestoreFormer,
sczhou/CodeFormer) in float32 on a CPU, with weights and inputs drawn as in `published`: faces of seeded noise, and what
came of them at the middles of a grid of 4 x 4 points.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from layouts import CODEFORMER, GFPGAN, RESTOREFORMER
from torch import Tensor, nn

from operators.enhance import codeformer, gfpgan, registry, restoreformer
from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.codeformer import CodeFormerEnhancer
from operators.enhance.contract import EnhancerDescriptor, Fidelity, OptionError, Options
from operators.enhance.gfpgan import GfpganEnhancer
from operators.enhance.restoreformer import RestoreFormerEnhancer
from operators.training.weights import WeightsError, sha256_file

pytest.importorskip("spandrel_extra_arches")

from operators.weights.through_spandrel import module

OUTPUTS: dict[str, list[list[float]]] = json.loads(
    (Path(__file__).parents[1] / "data" / "published_outputs.json").read_text()
)


def network(name: str, settings: dict[str, Any]) -> nn.Module:
    built: nn.Module = getattr(module(name), name)(**settings)
    return built


@pytest.fixture(scope="module")
def gfpgan_state() -> dict[str, Tensor]:
    return published.seeded(published.shapes(network("GFPGAN", GFPGAN)))


@pytest.fixture(scope="module")
def restoreformer_state() -> dict[str, Tensor]:
    return published.seeded(published.shapes(network("RestoreFormer", RESTOREFORMER)))


def empty_codeformer() -> dict[str, Tensor]:
    """A checkpoint of CodeFormer with few layers, whose tensors take no room."""
    with torch.device("meta"):
        state = network("CodeFormer", CODEFORMER).state_dict()
    return {key: torch.zeros(1).expand(value.shape) for key, value in state.items()}


def face(side: int) -> Tensor:
    return torch.tanh(torch.from_numpy(published.normal("input:face", (1, 3, side, side))))


def grid(image: Any) -> Any:
    """(..., S, S) at the middles of 4 x 4 squares, flat."""
    step = image.shape[-1] // 4
    found = image[..., step // 2 :: step, step // 2 :: step]
    return found.reshape(*found.shape[:-2], -1)


@torch.inference_mode()
def put_out(enhancer: object, side: int) -> np.ndarray:
    assert isinstance(enhancer, NetworkEnhancer)
    return np.asarray(grid(enhancer.run(face(side).to(memory_format=enhancer.memory_format))[0]))


@pytest.mark.parametrize("wrapper", ["params_ema", "params", ""])
def test_gfpgan_has_the_published_numbers(tmp_path: Path, gfpgan_state: dict[str, Tensor], wrapper: str) -> None:
    path = published.save(tmp_path / "GFPGANv1.3.pth", gfpgan_state, wrapper)
    enhancer = registry.load(path)
    np.testing.assert_allclose(put_out(enhancer, 128), OUTPUTS["GFPGAN, 128 px"], atol=2e-4)
    assert (enhancer.descriptor.architecture, enhancer.input_size, enhancer.output_size) == ("GFPGAN", 128, 128)
    assert (enhancer.name, enhancer.fingerprint) == ("GFPGANv1.3.pth", sha256_file(path))


@pytest.mark.parametrize(("wrapper", "prefix"), [("params", ""), ("state_dict", "vqvae.")])
def test_restoreformer_has_the_published_numbers(
    tmp_path: Path, restoreformer_state: dict[str, Tensor], wrapper: str, prefix: str
) -> None:
    """As GFPGAN's repository has it, and as its own training does, beside losses."""
    state = {prefix + key: value for key, value in restoreformer_state.items()}
    losses = {"loss.discriminator.main.0.weight": torch.ones(2)} if prefix else {}
    enhancer = registry.load(published.save(tmp_path / "RestoreFormer.ckpt", state | losses, wrapper))
    np.testing.assert_allclose(put_out(enhancer, 64), OUTPUTS["RestoreFormer, small"], atol=1e-3)
    assert (enhancer.descriptor.architecture, enhancer.input_size) == ("RestoreFormer", 512)


def test_half_precision_is_widened(tmp_path: Path, gfpgan_state: dict[str, Tensor]) -> None:
    halves = {key: value.half() for key, value in gfpgan_state.items()}
    enhancer = registry.load(published.save(tmp_path / "half.pth", halves))
    np.testing.assert_allclose(put_out(enhancer, 128), OUTPUTS["GFPGAN, 128 px"], atol=2e-2)


def test_a_face_has_the_same_bytes_in_any_batch(tmp_path: Path, gfpgan_state: dict[str, Tensor]) -> None:
    enhancer = registry.load(published.save(tmp_path / "g.pth", gfpgan_state))
    faces = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    np.testing.assert_array_equal(enhancer.enhance(faces), np.stack([enhancer.enhance(f[None])[0] for f in faces]))


def test_gfpgan_runs_in_batches(tmp_path: Path, gfpgan_state: dict[str, Tensor]) -> None:
    """As on a GPU: its views of features want them contiguous."""
    enhancer = registry.load(published.save(tmp_path / "g.pth", gfpgan_state))
    assert isinstance(enhancer, NetworkEnhancer)
    single = put_out(enhancer, 128)
    with torch.inference_mode():
        batch = grid(enhancer.run(face(128).repeat(3, 1, 1, 1)))
    np.testing.assert_allclose(batch[2], single, atol=1e-4)


class Echo(nn.Module):
    """Returns what it is given, first of a tuple, and remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, dict[str, Any]]] = []

    def forward(self, x: Tensor, **options: Any) -> tuple[Tensor, None]:
        self.seen.append((x.clone(), options))
        return x, None


def descriptor(module: Any) -> EnhancerDescriptor:
    """What `module` says of its enhancers, at 16 px."""
    knob = Fidelity(0.0, 1.0, 0.5) if module is codeformer else None
    return EnhancerDescriptor(module.NAME, "", 16, 16, (-1.0, 1.0), ("float32",), "", module.NAME, fidelity=knob)


@pytest.mark.parametrize(
    ("kind", "of", "expected"),
    [
        (GfpganEnhancer, gfpgan, {"return_rgb": False, "randomize_noise": False}),
        (RestoreFormerEnhancer, restoreformer, {}),
        (CodeFormerEnhancer, codeformer, {"weight": 0.5}),
    ],
)
def test_networks_see_red_first_in_minus_one_to_one(
    kind: Callable[..., NetworkEnhancer], of: Any, expected: dict[str, Any]
) -> None:
    echo = Echo()
    enhancer = kind(echo, descriptor(of))
    faces = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    faces[0, 0, 0] = 255, 0, 51
    np.testing.assert_array_equal(enhancer.enhance(faces), faces)
    seen, options = echo.seen[0]
    np.testing.assert_allclose(seen[0, :, 0, 0], [1.0, -1.0, -0.6], atol=1e-6)
    assert options == expected


def test_codeformer_loads_with_its_knob(tmp_path: Path) -> None:
    path = published.save(tmp_path / "codeformer.pth", empty_codeformer(), "params_ema")
    enhancer = registry.load(path, options=Options(fidelity=0.9))
    assert isinstance(enhancer, CodeFormerEnhancer)
    assert enhancer.fidelity == 0.9
    assert enhancer.descriptor.fidelity == Fidelity(low=0.0, high=1.0, default=0.5)
    assert (enhancer.descriptor.architecture, enhancer.input_size, enhancer.output_size) == ("CodeFormer", 512, 512)
    with pytest.raises(OptionError, match=r"takes 0 to 1, not 1\.5"):
        registry.load(path, options=Options(fidelity=1.5))


def test_an_enhancer_without_a_knob_says_so(tmp_path: Path, gfpgan_state: dict[str, Tensor]) -> None:
    with pytest.raises(OptionError, match="has no such knob"):
        registry.load(published.save(tmp_path / "g.pth", gfpgan_state), options=Options(fidelity=0.5))


def test_the_first_gfpgan_is_told_apart(tmp_path: Path, gfpgan_state: dict[str, Tensor]) -> None:
    first = {key.replace("conv_body_first.", "conv_body_first.0."): value for key, value in gfpgan_state.items()}
    with pytest.raises(WeightsError, match=r"GFPGANv1\.pth is GFPGAN version 1.*use GFPGANv1\.3\.pth"):
        registry.load(published.save(tmp_path / "GFPGANv1.pth", first, "params_ema"))


@pytest.mark.parametrize("change", ["missing", "resized", "one more"])
def test_another_version_is_told_in_a_line(tmp_path: Path, gfpgan_state: dict[str, Tensor], change: str) -> None:
    state = dict(gfpgan_state)
    if change == "missing":
        del state["final_linear.weight"]
    elif change == "resized":
        state["final_conv.weight"] = torch.zeros(3, 3, 3, 3)
    else:
        state["more.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"odd\.pth looks like GFPGAN, but is of a size or version") as caught:
        registry.load(published.save(tmp_path / "odd.pth", state))
    assert "\n" not in str(caught.value)


def test_without_spandrel_the_remedy_is_named(
    tmp_path: Path, gfpgan_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel.architectures.GFPGAN", None)
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches.architectures.CodeFormer", None)
    gfpgan_file = published.save(tmp_path / "g.pth", gfpgan_state)
    codeformer_file = published.save(tmp_path / "c.pth", empty_codeformer_keys())
    for path, package in ((gfpgan_file, "package spandrel,"), (codeformer_file, "package spandrel_extra_arches,")):
        with pytest.raises(WeightsError, match=rf"{package}.*pip install 'dr2e\[spandrel\]'"):
            registry.load(path)


def empty_codeformer_keys() -> dict[str, Tensor]:
    return dict.fromkeys(codeformer._KEYS, torch.zeros(1))


def test_the_registry_does_not_import_spandrel() -> None:
    code = "import sys; import operators.enhance.registry; print('spandrel' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


PARAMETERS = {"GFPGAN": 86_444_252, "RestoreFormer": 72_680_003, "CodeFormer": 94_112_707}
"""Of the published networks."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GFPGAN", "RestoreFormer", "CodeFormer", "CodeFormer, w = 1"])
def test_the_published_size_has_the_published_numbers(tmp_path: Path, name: str) -> None:
    kind, faithful = name.partition(",")[0], name.endswith("w = 1")
    full = network(kind, {})
    assert sum(parameter.numel() for parameter in full.parameters()) == PARAMETERS[kind]
    path = published.save(tmp_path / "full.pth", published.seeded(published.shapes(full)), "params_ema")
    started = time.perf_counter()
    enhancer = registry.load(path, options=Options(fidelity=1.0 if faithful else None))
    loaded = time.perf_counter()
    noise = published.normal("input:face", (1, 512, 512, 3))
    (image,) = enhancer.enhance(np.clip(128 + 50 * noise, 0, 255).astype(np.uint8))
    print(f"\n{name}: loaded in {loaded - started:.1f} s, one face in {time.perf_counter() - loaded:.1f} s", end=" ")
    assert np.abs(grid(image.transpose(2, 0, 1)).astype(int) - OUTPUTS[name]).max() <= 2
