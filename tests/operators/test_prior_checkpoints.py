"""Priors load from our safetensors, from diffusers folders and from guided-diffusion files; the rest is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from operators.dr2.checkpoints import load_prior, save_prior
from operators.dr2.guided_diffusion import to_diffusers
from operators.dr2.prior import PriorSpec
from operators.dr2.schedule import Schedule
from operators.training.weights import WeightsError, save_weights

SHARED = Path(os.environ.get("DR2E_SHARED", Path(__file__).parents[3] / "shared"))


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


def test_a_guided_diffusion_file_loads_without_running_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    torch.save({"time_embed.0.weight": _Bomb()}, path)
    with pytest.raises(WeightsError, match="not a readable PyTorch state dict"):
        load_prior(str(path))
    assert not (tmp_path / "ran").exists()


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


@pytest.mark.skipif(not (SHARED / "golden").is_dir(), reason="needs the published key list")
def test_the_published_256_px_layout_is_understood() -> None:
    keys = json.loads((SHARED / "golden" / "unet_guided_diffusion_256.keys.json").read_text())
    network, learned = to_diffusers({key: torch.zeros(1).expand(*shape) for key, shape in keys}, 256)
    assert learned
    assert network.config.block_out_channels == (128, 128, 256, 256, 512, 512)
    assert sum(parameter.numel() for parameter in network.parameters()) == 93_563_910
