"""VQFR 1 and 2 from their published layouts, held against the published implementation's numbers on seeded weights."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import GOLDEN
from published import faces, layout, normal, save, seeded
from torch import Tensor

from operators.enhance import registry
from operators.enhance.adapter import from_network
from operators.enhance.contract import OptionError, Options
from operators.enhance.vqfr import v1, v2
from operators.training.weights import WeightsError

SMALL = {version: layout(GOLDEN, f"vqfr_{version}_small") for version in ("v1", "v2")}
PUBLISHED = {version: layout(GOLDEN, f"vqfr_{version}_512") for version in ("v1", "v2")}
VERSIONS = ("v1", "v2")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small networks, in the wrappers that the published files have."""
    folder = tmp_path_factory.mktemp("vqfr")
    return {
        "v1": save(folder / "VQFR_v1-33a1fac5.pth", seeded(SMALL["v1"]), "params_ema"),
        "v2": save(folder / "VQFR_v2.pth", seeded(SMALL["v2"]), "params"),
    }


def published_input() -> Tensor:
    return torch.tanh(torch.from_numpy(normal("input:face", (2, 3, 64, 64))))


def close(out: Tensor, name: str) -> None:
    np.testing.assert_allclose(out[..., ::4, ::4].numpy(), GOLDEN[name], atol=1e-4)


@torch.inference_mode()
def test_version_1_has_the_published_numbers() -> None:
    network, halvings = v1.network_of(seeded(SMALL["v1"]))
    assert halvings == 2
    close(network(published_input()), "vqfr_v1_small_out")


@torch.inference_mode()
def test_version_2_has_the_published_numbers_at_each_fidelity() -> None:
    network, halvings = v2.network_of(seeded(SMALL["v2"]))
    assert halvings == 2
    close(network(published_input(), 0.0), "vqfr_v2_small_0_out")
    close(network(published_input(), 0.4), "vqfr_v2_small_0.4_out")


@torch.inference_mode()
def test_version_2_that_predicts_no_codes_takes_the_nearest() -> None:
    state = {key: value for key, value in seeded(SMALL["v2"]).items() if not key.startswith("feat2index")}
    close(v2.network_of(state)[0](published_input(), 0.4), "vqfr_v2_nearest_0.4_out")


@pytest.mark.parametrize(("version", "parameters"), [("v1", 76_563_583), ("v2", 83_486_539)])
def test_the_published_file_is_what_is_built(version: str, parameters: int) -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in PUBLISHED[version].items()}
    network, halvings = {"v1": v1, "v2": v2}[version].network_of(state)
    assert halvings == 5
    assert sum(value.numel() for value in network.parameters()) == parameters


@pytest.mark.parametrize("version", VERSIONS)
def test_the_descriptor(paths: dict[str, Path], version: str) -> None:
    facts = registry.load(paths[version]).descriptor
    assert (facts.architecture, facts.name) == (f"VQFR-{version}", paths[version].name)
    assert facts.input_size == facts.output_size == 64
    assert facts.memory > 0


def test_the_knob_of_version_2_keeps_the_face_at_1(paths: dict[str, Path]) -> None:
    """At 0 only codes pass, so faces of the same codes come out alike; at 1 the faces themselves are seen."""
    knob = registry.load(paths["v2"]).descriptor.fidelity
    assert knob is not None and (knob.low, knob.high, knob.default) == (0.0, 1.0, 0.0)
    face = faces(1, 64)
    touched = face.copy()
    touched[0, 20, 20] ^= 1

    def moved(fidelity: float | None) -> int:
        enhancer = registry.load(paths["v2"], options=Options(fidelity=fidelity))
        return int((enhancer.enhance(face) != enhancer.enhance(touched)).sum())

    assert moved(None) == moved(0.0) == 0
    assert moved(1.0) > 0


def test_a_knob_that_is_not_there(paths: dict[str, Path]) -> None:
    with pytest.raises(OptionError, match="no such knob"):
        registry.load(paths["v1"], options=Options(fidelity=0.5))
    with pytest.raises(OptionError, match="takes 0 to 1"):
        registry.load(paths["v2"], options=Options(fidelity=1.5))


@pytest.mark.parametrize("version", VERSIONS)
def test_alone_and_in_a_batch(paths: dict[str, Path], version: str) -> None:
    enhancer, batch = registry.load(paths[version]), faces(3, 64)
    together = enhancer.enhance(batch)
    np.testing.assert_array_equal(enhancer.enhance(batch[2:]), together[2:])
    assert (together[0] != together[1]).any()


@pytest.mark.parametrize("version", VERSIONS)
def test_grey_stays_grey(paths: dict[str, Path], version: str) -> None:
    grey = registry.load(paths[version]).enhance(faces(1, 64)[..., :1].repeat(3, axis=-1))
    assert (grey == grey[..., :1]).all()
    assert grey.std() > 1


@pytest.mark.parametrize("version", VERSIONS)
def test_bfloat16_chooses_the_same_codes(paths: dict[str, Path], version: str) -> None:
    """Another code would be another texture: some squares would be far off, not all a little."""
    batch = faces(2, 64)
    exact = registry.load(paths[version]).enhance(batch).astype(float)
    near = registry.load(paths[version], options=Options(precision="bfloat16")).enhance(batch)
    difference = np.abs(near - exact)
    assert 0 < difference.mean() < 2
    assert difference.max() < 40


@pytest.mark.parametrize(
    ("version", "change", "reason"),
    [
        ("v1", {"inpfeat_extraction.conv.weight": None}, "inpfeat_extraction.conv.weight is missing"),
        ("v1", {"decoder.decoder_dict.Level_2.0.norm1.bias": None}, "decoder.decoder_dict.Level_2.0.norm1.bias"),
        ("v1", {"main_decoder.conv_out_1.0.weight": torch.ones(48)}, "48"),
        ("v1", {"quantizer.quantize_dict.Level_2.embedding.weight": torch.ones(2, 2)}, "Unexpected key"),
        ("v2", {"encoder.conv_out.2.bias": None}, "encoder.conv_out.2.bias"),
        ("v2", {"quantizer.embedding.weight": torch.ones(64, 16)}, "size mismatch"),
        ("v2", {"main_branch.align_func_dict.Level_4.dcn.conv_offset.weight": torch.ones(26, 64, 3, 3)}, "conv_offset"),
    ],
)
def test_another_file_is_refused_in_a_line(
    version: str, change: dict[str, Tensor | None], reason: str, tmp_path: Path
) -> None:
    changed = {key: value for key, value in (seeded(SMALL[version]) | change).items() if value is not None}
    path = save(tmp_path / "other.pth", changed, "params")
    with pytest.raises(WeightsError, match=reason) as refused:
        registry.load(path)
    assert str(refused.value).startswith(f"{path} looks like VQFR-{version}")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("version", "fidelity"), [("v1", None), ("v2", 0.0), ("v2", 1.0)])
def test_a_face_of_512_px(
    version: str, fidelity: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "vqfr.pth", seeded(PUBLISHED[version]), "params")
    enhancer = registry.load(path, options=Options(fidelity=fidelity))
    start = time.monotonic()
    enhanced = enhancer.enhance(faces(1, 512))
    with capsys.disabled():
        print(f"\nVQFR {version} at fidelity {fidelity}, 512 px: {time.monotonic() - start:.1f} s")
    name = f"vqfr_{version}_512" + ("" if fidelity is None else f"_{fidelity:g}")
    expected = from_network(torch.from_numpy(GOLDEN[f"{name}_out"])).astype(int)
    assert np.abs(enhanced[:, ::16, ::16] - expected).max() <= 1
    assert expected.std() > 30
