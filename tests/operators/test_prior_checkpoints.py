"""Priors load from our safetensors, from diffusers folders and from guided-diffusion files; the rest is refused."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from operators.dr2.checkpoints import load_prior, save_prior
from operators.dr2.engine import Engine, Trajectory
from operators.dr2.guided_diffusion import Undeclared, to_diffusers
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior, PriorSpec
from operators.dr2.sampler import Walk
from operators.dr2.schedule import Schedule
from operators.training.weights import WeightsError, save_weights

DATA = Path(__file__).parents[1] / "data"


def tiny_network(out_channels: int = 3) -> UNet2DModel:
    torch.manual_seed(1)
    return UNet2DModel(
        sample_size=32, in_channels=3, out_channels=out_channels, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=8,
    )  # fmt: skip


def test_our_own_file_round_trips(tmp_path: Path) -> None:
    path, network = tmp_path / "prior.safetensors", tiny_network()
    spec = PriorSpec(32, "v_prediction", max_timestep=700)
    save_prior(path, network, spec, Schedule.linear(), name="tiny", licence="Apache-2.0")
    prior = load_prior(str(path))
    assert (prior.spec, prior.name, len(prior.fingerprint)) == (spec, "tiny", 64)
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([300])
    torch.testing.assert_close(prior.network(x, t).sample, network.eval()(x, t).sample, atol=5e-3, rtol=0)


def test_a_diffusers_folder_loads_with_its_schedule(tmp_path: Path) -> None:
    network = tiny_network()
    network.save_pretrained(tmp_path)
    DDPMScheduler(num_train_timesteps=500, beta_schedule="linear", prediction_type="epsilon").save_pretrained(tmp_path)
    prior = load_prior(str(tmp_path))
    assert (len(prior.schedule), prior.size, prior.spec.variance) == (500, 32, "fixed_small")
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([10, 400])
    alpha_bar = torch.from_numpy(prior.schedule.alpha_bar)[t].float().view(-1, 1, 1, 1)
    expected = (x - (1 - alpha_bar).sqrt() * network.eval()(x, t).sample) / alpha_bar.sqrt()
    torch.testing.assert_close(prior.estimate(x, t).x0, expected, atol=1e-4, rtol=1e-4)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt", "missing-folder"])
def test_a_missing_prior_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=name):
        load_prior(str(tmp_path / name))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_weights(path, {"w": torch.zeros(2)}, {"kind": "detector"})
    with pytest.raises(WeightsError, match="'detector' model, a 'prior' model is needed"):
        load_prior(str(path))
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_prior(str(path))
    save_weights(path, {"w": torch.zeros(2)}, {"kind": "prior", "spec": {"size": 32}, "unet": {"sample_size": "x"}})
    with pytest.raises(WeightsError, match=r"other\.safetensors does not hold a prior this version can build"):
        load_prior(str(path))


# The guided-diffusion layout.


def small_unet() -> dict[str, Tensor]:
    """The seeded 64 px U-Net of the golden numbers."""
    golden = np.load(DATA / "golden.npz")
    keys = zip(golden["unet_keys"].tolist(), golden["unet_shapes"].tolist(), strict=True)
    return published.seeded({key: [int(side) for side in shape.split(",")] for key, shape in keys})


UNET = small_unet()
AT_64 = Undeclared(size=64)


@pytest.mark.parametrize(("name", "wrapper"), [("ffhq_p2.pt", ""), ("ema.pth", "ema"), ("p.ckpt", "state_dict")])
def test_a_guided_diffusion_file_gives_the_published_numbers(tmp_path: Path, name: str, wrapper: str) -> None:
    path = published.save(tmp_path / name, UNET, wrapper)
    prior = load_prior(str(path), undeclared=AT_64, precision="float32")
    x = torch.from_numpy(published.normal("input:unet", (2, 3, 64, 64)))
    with torch.inference_mode():
        out = prior.network(x, torch.tensor([37, 612])).sample.numpy()
    np.testing.assert_allclose(out[..., ::2, ::2], np.load(DATA / "golden.npz")["unet_out"], atol=1e-4)
    assert prior.spec == PriorSpec(64, "epsilon", "learned_range")
    assert (prior.name, len(prior.schedule)) == (name, 1000)


def test_a_guided_diffusion_file_may_be_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "ffhq_10m.safetensors"
    save_file(UNET, str(path))
    prior = load_prior(str(path), size=64)
    assert (prior.size, prior.spec.variance) == (64, "learned_range")


def test_what_a_guided_diffusion_file_does_not_say_can_be_told(tmp_path: Path) -> None:
    state = {key: value[:3] if key.startswith("out.2.") else value for key, value in UNET.items()}
    path = str(published.save(tmp_path / "three.pt", state))
    told = load_prior(path, undeclared=Undeclared(64, "cosine", "new", "fixed_large"))
    assert told.spec == PriorSpec(64, "epsilon", "fixed_large")
    np.testing.assert_array_equal(told.schedule.betas, Schedule.cosine().betas)
    usual = load_prior(path, undeclared=AT_64)
    assert usual.spec.variance == "fixed_small"
    np.testing.assert_array_equal(usual.schedule.betas, Schedule.linear().betas)


def test_the_new_order_of_attention_is_the_old_one_permuted() -> None:
    """legacy: q, k and v of each head together; new: those of all heads together."""
    permuted = dict(UNET)
    for key in UNET:
        if ".qkv." in key:
            heads = UNET[key].reshape(-1, 3, 64, *UNET[key].shape[1:])
            permuted[key] = heads.transpose(0, 1).reshape(UNET[key].shape)
    legacy, _ = to_diffusers(UNET, 64, "legacy")
    new, _ = to_diffusers(permuted, 64, "new")
    assert all(torch.equal(value, new.state_dict()[key]) for key, value in legacy.state_dict().items())
    wrong, _ = to_diffusers(permuted, 64, "legacy")
    assert any(not torch.equal(value, wrong.state_dict()[key]) for key, value in legacy.state_dict().items())


def test_settings_of_a_store_are_understood() -> None:
    settings = {"size": 128, "schedule": "cosine", "max_timestep": 1000}
    assert Undeclared.of(settings) == Undeclared(128, "cosine")
    assert Undeclared.of({}) == Undeclared()
    for wrong in ({"schedule": "steep"}, {"size": "big"}, {"variance": "learned"}, {"attention": 3}):
        with pytest.raises(WeightsError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))!r}"):
            Undeclared.of(wrong)


def test_the_cosine_schedule_is_that_of_its_paper() -> None:
    schedule = Schedule.cosine()
    t = np.arange(1, 1001) / 1000
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert schedule.betas.max() == 0.999
    uncut = schedule.betas < 0.999
    np.testing.assert_allclose(schedule.alpha_bar[uncut], alpha_bar[uncut], rtol=1e-9)


def _without(key: str) -> dict[str, Tensor]:
    return {name: value for name, value in UNET.items() if name != key}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "another": ({"conv1.weight": torch.zeros(2)}, "is no prior: its tensors, conv1.weight"),
    "incomplete": (_without("middle_block.0.in_layers.0.weight"), "it lacks the tensor middle_block"),
    "resized": (UNET | {"middle_block.0.in_layers.2.weight": torch.zeros(8, 8, 3, 3)}, "tensors do not fit"),
    "scalar": (UNET | {"out.2.weight": torch.tensor(1.0)}, "is no U-Net that can be built here"),
    "class-conditional": (UNET | {"label_emb.weight": torch.zeros(10, 256)}, "no such U-Net has, as label_emb"),
    "grey": (UNET | {"input_blocks.0.0.weight": torch.zeros(64, 1, 3, 3)}, "goes from 1 channels to 6"),
    "other heads": (UNET | {"middle_block.1.qkv.weight": torch.zeros(100, 128, 1)}, "not heads of 64 channels"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_other_guided_diffusion_files_are_refused_in_a_line(tmp_path: Path, what: str) -> None:
    state, message = BROKEN[what]
    with pytest.raises(WeightsError, match=message) as caught:
        load_prior(str(published.save(tmp_path / "odd.pt", state)), undeclared=AT_64)
    assert "odd.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_size_that_cannot_be_halved_so_often_is_refused(tmp_path: Path) -> None:
    path = published.save(tmp_path / "u.pt", UNET)
    with pytest.raises(WeightsError, match="65 px is no multiple of"):
        load_prior(str(path), size=65)


@pytest.mark.parametrize("what", ["hostile", "cut", "page", "empty"])
def test_files_that_are_no_weights_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "prior.pt"
    if what == "hostile":
        torch.save({"time_embed.0.weight": _Bomb()}, path)
    else:
        whole = published.save(tmp_path / "whole.pt", UNET).read_bytes()
        path.write_bytes({"cut": whole[:5000], "page": b"<html>Sign in</html>", "empty": b""}[what])
    message = {"hostile": "holds Python objects", "cut": "is cut", "page": "is a web page", "empty": "is empty"}[what]
    with pytest.raises(WeightsError, match=message) as caught:
        load_prior(str(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def published_keys() -> dict[str, list[int]]:
    keys: dict[str, list[int]] = json.loads((DATA / "unet_guided_diffusion_256.keys.json").read_text())
    return keys


def test_the_published_256_px_layout_is_understood() -> None:
    network, learned = to_diffusers(
        {key: torch.zeros(1).expand(*shape) for key, shape in published_keys().items()}, 256
    )
    assert learned
    assert network.config.block_out_channels == (128, 128, 256, 256, 512, 512)
    assert sum(parameter.numel() for parameter in network.parameters()) == 93_563_910


@pytest.mark.slow
def test_a_published_256_px_prior_restores_a_face(tmp_path: Path) -> None:
    path = published.save(tmp_path / "ffhq_10m.pt", published.seeded(published_keys()))
    one_step(load_prior(str(path), precision="float32"))


def one_step(prior: Prior) -> None:
    """DR2 at N = 8 from one step to the next, and the time of an evaluation."""
    face = torch.tanh(torch.from_numpy(published.normal("input:face", (3, prior.size, prior.size))))
    walk = Walk(Trajectory(face, FaceNoise(0, "face", 0), 8, (10, 9), frozenset([9])))
    started = time.perf_counter()
    Engine(prior, prior.schedule.respaced(100), slots=1, batch=1).run([walk])
    print(f"\n{prior.name}: {(time.perf_counter() - started) / 2:.1f} s an evaluation of one face", end=" ")
    x0 = walk.found[9]
    assert x0.shape == face.shape
    assert torch.isfinite(x0).all()
    assert 0.05 < float(x0.std()) < 1


# The layout of diffusers.


def scheduler_folder(folder: Path, **changes: Any) -> Path:
    """A prior beside its scheduler, whose configuration has `changes`."""
    tiny_network(6 if changes.get("variance_type") == "learned_range" else 3).save_pretrained(folder)
    DDPMScheduler(num_train_timesteps=400).save_pretrained(folder)
    path = folder / "scheduler_config.json"
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not ...}))
    return folder


def test_a_pipelines_folder_loads(tmp_path: Path) -> None:
    pipeline = DDPMPipeline(tiny_network(), DDPMScheduler(num_train_timesteps=300, prediction_type="v_prediction"))
    pipeline.save_pretrained(tmp_path / "my-prior")
    prior = load_prior(str(tmp_path / "my-prior"))
    assert prior.spec == PriorSpec(32, "v_prediction", "fixed_small", max_timestep=300)
    assert prior.name == "my-prior"


def test_a_ddim_schedulers_folder_loads(tmp_path: Path) -> None:
    pipeline = DDIMPipeline(tiny_network(), DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample"))
    pipeline.save_pretrained(tmp_path)
    prior = load_prior(str(tmp_path))
    assert prior.spec == PriorSpec(32, "sample", "fixed_small")
    np.testing.assert_allclose(prior.schedule.betas, Schedule.cosine().betas, atol=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "trained"])
def test_declared_schedules_are_used(tmp_path: Path, schedule: str) -> None:
    changes: dict[str, Any] = {"beta_schedule": schedule, "beta_start": 0.001, "beta_end": 0.01}
    if schedule == "trained":
        changes |= {"beta_schedule": "linear", "trained_betas": np.linspace(0.02, 0.03, 50).tolist()}
    prior = load_prior(str(scheduler_folder(tmp_path, **changes)))
    expected = {
        "linear": np.linspace(0.001, 0.01, 400),
        "scaled_linear": np.linspace(0.001**0.5, 0.01**0.5, 400) ** 2,
        "squaredcos_cap_v2": Schedule.cosine(400).betas,
        "trained": np.linspace(0.02, 0.03, 50),
    }[schedule]
    np.testing.assert_allclose(prior.schedule.betas, expected, rtol=1e-4)
    assert prior.spec.max_timestep == len(expected)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("fixed_small", "fixed_small"), ("fixed_small_log", "fixed_small"), ("fixed_large", "fixed_large"),
        ("learned_range", "learned_range"), (..., "fixed_small"),
    ],
)  # fmt: skip
def test_declared_variances_are_used(tmp_path: Path, declared: Any, expected: str) -> None:
    assert load_prior(str(scheduler_folder(tmp_path, variance_type=declared))).spec.variance == expected


def test_a_folder_of_half_precision_and_older_names_loads(tmp_path: Path) -> None:
    """As the hub's older models: a file of PyTorch, and other names of attention's layers."""
    torch.manual_seed(2)
    network = UNet2DModel(
        sample_size=[32, 32], block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    network.save_config(tmp_path)
    DDPMScheduler().save_pretrained(tmp_path)
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = {}
    for key, value in network.state_dict().items():
        for today, before in names.items():
            key = key.replace(today, before)
        state[key] = value.half()
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    prior = load_prior(str(tmp_path))
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([30])
    torch.testing.assert_close(prior.network(x, t).sample, network.eval()(x, t).sample, atol=2e-2, rtol=0)


NO_SCHEDULER: dict[str, tuple[dict[str, Any], str]] = {
    "another family": ({"_class_name": "EulerDiscreteScheduler"}, "is a EulerDiscreteScheduler; known are DDIM"),
    "no signal at the end": ({"rescale_betas_zero_snr": True}, "ends in pure noise"),
    "prediction": ({"prediction_type": "flow"}, "has prediction_type 'flow'; known are epsilon"),
    "variance": ({"variance_type": "learned"}, "has variance_type 'learned'; known are"),
    "no schedule": ({"beta_schedule": "steep"}, "describes no noise schedule"),
    "impossible betas": ({"beta_end": 2.0}, "describes no noise schedule"),
    "endless": ({"num_train_timesteps": 10**12}, "no number of timesteps from 20 to 10000"),
    "nonsense": ({"trained_betas": "many"}, "no number of timesteps"),
}


@pytest.mark.parametrize("what", NO_SCHEDULER)
def test_schedulers_that_are_none_of_a_ddpm_are_refused(tmp_path: Path, what: str) -> None:
    changes, message = NO_SCHEDULER[what]
    with pytest.raises(WeightsError, match=message) as caught:
        load_prior(str(scheduler_folder(tmp_path, **changes)))
    assert "\n" not in str(caught.value)


def test_a_variance_that_the_network_has_not_learned_is_refused(tmp_path: Path) -> None:
    scheduler_folder(tmp_path)
    tiny_network(6).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="'fixed_small', which a network of 6 outputs does not fit"):
        load_prior(str(tmp_path))


NO_NETWORK: dict[str, tuple[dict[str, Any], str]] = {
    "another class": ({"_class_name": "UNet2DConditionModel"}, "describes a UNet2DConditionModel"),
    "classes": ({"num_class_embeds": 10}, "wants the class of what it draws"),
    "no size": ({"sample_size": None}, "sample_size is None"),
    "not square": ({"sample_size": [32, 64]}, r"sample_size is \[32, 64\]"),
    "odd size": ({"sample_size": 33}, "sample_size is 33, and not a multiple of 2"),
    "latents": ({"in_channels": 4}, "in_channels is 4; a prior takes 3"),
    "four outputs": ({"out_channels": 4}, "out_channels is 4; a prior has 3 or 6"),
    "no block": ({"down_block_types": ["Nothing", "DownBlock2D"]}, "describes no U-Net that can be built"),
    "huge": ({"block_out_channels": [2**20, 2**20]}, "holds another network than"),
    "another width": ({"block_out_channels": [16, 48]}, "holds another network than"),
}


@pytest.mark.parametrize("what", NO_NETWORK)
def test_networks_that_are_no_priors_are_refused(tmp_path: Path, what: str) -> None:
    changes, message = NO_NETWORK[what]
    path = scheduler_folder(tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(WeightsError, match=message) as caught:
        load_prior(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    """diffusers itself makes up what is missing."""
    path = scheduler_folder(tmp_path) / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    del state["conv_in.weight"]
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"holds another network.*conv_in\.weight"):
        load_prior(str(tmp_path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="is cut or no safetensors"):
        load_prior(str(tmp_path))
    path.unlink()
    with pytest.raises(WeightsError, match="has no weights; put diffusion_pytorch_model"):
        load_prior(str(tmp_path))


def test_hostile_weights_in_a_folder_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (scheduler_folder(tmp_path) / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": _Bomb()}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds Python objects"):
        load_prior(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json"])
def test_a_folder_without_its_configurations_is_refused(tmp_path: Path, name: str) -> None:
    path = scheduler_folder(tmp_path) / name
    for content in (b"<html>", b"[1]", b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name} (is not readable as JSON|holds no settings)"):
            load_prior(str(tmp_path))
    path.unlink()
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        load_prior(str(tmp_path))


def test_a_hub_name_without_a_network_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match="google/ddpm-celebahq-256 is neither a file, nor a folder, nor a hub"
    ) as caught:
        load_prior("google/ddpm-celebahq-256")
    assert "\n" not in str(caught.value)


CELEBAHQ: dict[str, Any] = {
    "sample_size": 256, "in_channels": 3, "out_channels": 3, "center_input_sample": False,
    "time_embedding_type": "positional", "freq_shift": 1, "flip_sin_to_cos": False,
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
    "block_out_channels": [128, 128, 256, 256, 512, 512], "layers_per_block": 2, "mid_block_scale_factor": 1,
    "downsample_padding": 0, "act_fn": "silu", "attention_head_dim": None, "norm_num_groups": 32, "norm_eps": 1e-06,
}  # fmt: skip
"""The configuration of google/ddpm-celebahq-256."""


@pytest.mark.slow
def test_the_hubs_prior_of_faces_loads(tmp_path: Path) -> None:
    network = UNet2DModel(**CELEBAHQ)
    network.load_state_dict(published.seeded(published.shapes(network)))
    assert sum(parameter.numel() for parameter in network.parameters()) == 113_673_219
    network.save_pretrained(tmp_path / "ddpm-celebahq-256")
    DDPMScheduler().save_pretrained(tmp_path / "ddpm-celebahq-256")
    prior = load_prior(str(tmp_path / "ddpm-celebahq-256"), precision="float32")
    assert prior.spec == PriorSpec(256, "epsilon", "fixed_small")
    one_step(prior)
