"""Load and save priors: our own safetensors, diffusers folders and hub names, guided-diffusion state dicts."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from operators.dr2.guided_diffusion import GUIDED_DIFFUSION_SIZE, looks_like_guided_diffusion, to_diffusers
from operators.dr2.prior import Precision, Prior, PriorSpec
from operators.dr2.schedule import Schedule
from operators.dr2.unet import DDPMScheduler, UNet2DModel
from operators.training.weights import WeightsError, load_weights, save_weights, sha256_file
from operators.weights import resolve


def save_prior(
    path: Path, network: UNet2DModel, spec: PriorSpec, schedule: Schedule, *, name: str, licence: str
) -> None:
    """Write a prior as one safetensors file that :func:`load_prior` reads back."""
    config = {key: value for key, value in network.config.items() if not key.startswith("_")}
    description = {
        "kind": "prior", "name": name, "licence": licence, "spec": asdict(spec), "unet": config,
        "betas": [float(beta) for beta in schedule.betas],
    }  # fmt: skip
    save_weights(path, network.state_dict(), description)


def load_prior(
    source: str, *, device: str | torch.device = "cpu", precision: Precision = "auto", size: int | None = None
) -> Prior:
    """Load a prior.

    source: ``"builtin"``; a ``.safetensors`` file of ours; a folder in diffusers' layout or a hub name such as
        ``google/ddpm-celebahq-256``; or a ``.pt``/``.pth``/``.pkl`` state dict in the guided-diffusion layout
        (ILVR, P2-weighting and DR2 checkpoints).
    size: face side for a guided-diffusion file, which does not record it (256 when not given).
    Raises WeightsError when the source is missing, unreadable or of another kind.
    """
    if source == "builtin" or source.endswith(".safetensors"):
        return _load_ours(resolve(source, "prior"), device, precision)
    if Path(source).suffix in {".pt", ".pth", ".pkl", ".ckpt", ".bin"}:
        return _load_guided_diffusion(Path(source), size or GUIDED_DIFFUSION_SIZE, device, precision)
    return _load_diffusers(source, device, precision)


def _load_ours(path: Path, device: str | torch.device, precision: Precision) -> Prior:
    state, description = load_weights(path, "prior")
    network = UNet2DModel.from_config(description["unet"])
    network.load_state_dict(state)
    return Prior(
        network,
        PriorSpec(**description["spec"]),
        Schedule.of(np.array(description["betas"])),
        name=description["name"],
        licence=description["licence"],
        fingerprint=sha256_file(path),
        device=device,
        precision=precision,
    )


def _load_guided_diffusion(path: Path, size: int, device: str | torch.device, precision: Precision) -> Prior:
    if not path.is_file():
        raise WeightsError(f"prior not found: {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise WeightsError(f"not a readable PyTorch state dict: {path} ({type(error).__name__})") from error
    if not isinstance(state, dict) or not looks_like_guided_diffusion(state):
        raise WeightsError(f"{path} is not a U-Net in the guided-diffusion layout (no time_embed, input_blocks)")
    try:
        network, learned = to_diffusers(state, size)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    spec = PriorSpec(size, "epsilon", "learned_range" if learned else "fixed_small")
    return Prior(
        network, spec, Schedule.linear(),
        name=path.name, licence="see its publisher", fingerprint=sha256_file(path), device=device, precision=precision,
    )  # fmt: skip


def _load_diffusers(source: str, device: str | torch.device, precision: Precision) -> Prior:
    folder = Path(source)
    # A hub pipeline keeps its parts in sub-folders; ddpm-celebahq-256 and friends keep them at the top.
    nested = (folder / "unet").is_dir()
    try:
        network = UNet2DModel.from_pretrained(source, subfolder="unet" if nested else None)
        scheduler = DDPMScheduler.from_pretrained(
            source, subfolder="scheduler" if (folder / "scheduler").is_dir() else None
        )
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"no prior at {source!r}: not a file, not a diffusers folder, and not a hub model that can be reached"
        ) from error
    variance: dict[str, Any] = {"fixed_small_log": "fixed_small"}
    declared = scheduler.config.variance_type
    spec = PriorSpec(
        size=int(network.config.sample_size),
        prediction=scheduler.config.prediction_type,
        variance=variance.get(declared, declared),
        max_timestep=int(scheduler.config.num_train_timesteps),
    )
    return Prior(
        network, spec, Schedule.of(scheduler.betas.double().numpy()),
        name=source.rstrip("/").split(os.sep)[-1], licence="see its publisher",
        fingerprint=_fingerprint(network), device=device, precision=precision,
    )  # fmt: skip


def _fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over the tensors, for models that are not one file."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
