"""Load and save priors: our own safetensors, diffusers folders and hub names, guided-diffusion state dicts."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from operators.dr2.folder import fetched, network_of, opened, spec_of
from operators.dr2.guided_diffusion import UNDECLARED, Undeclared, looks_like_guided_diffusion, to_diffusers
from operators.dr2.prior import Precision, Prior, PriorSpec
from operators.dr2.schedule import Schedule
from operators.dr2.unet import UNet2DModel
from operators.training.weights import WeightsError, is_ours, load_weights, save_weights, sha256_file
from operators.weights import resolve
from operators.weights.reading import SUFFIXES, read_state


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
    source: str,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
    size: int | None = None,
    undeclared: Undeclared = UNDECLARED,
) -> Prior:
    """Load a prior.

    source: ``"builtin"``; a ``.safetensors`` file of ours; a folder in diffusers' layout or a hub name such as
        ``google/ddpm-celebahq-256``; or a state dict in the guided-diffusion layout (ILVR, P2-weighting and DR2
        checkpoints), as ``.pt``, ``.pth``, ``.pkl``, ``.ckpt``, ``.bin`` or ``.safetensors``.
    undeclared: what a guided-diffusion file does not say of itself; size: that of its faces, if not as there.
    Raises WeightsError, one line, when the source is missing, unreadable, unsafe or of another kind.
    """
    path = Path(source)
    if source == "builtin" or (path.suffix == ".safetensors" and is_ours(path)):
        return _load_ours(resolve(source, "prior"), device, precision)
    if path.suffix.lower() in SUFFIXES:
        told = undeclared if size is None else replace(undeclared, size=size)
        return _load_guided_diffusion(path, told, device, precision)
    return _load_diffusers(source, device, precision)


def _load_ours(path: Path, device: str | torch.device, precision: Precision) -> Prior:
    state, description = load_weights(path, "prior")
    try:
        network = UNet2DModel.from_config(description["unet"])
        network.load_state_dict(state)
        spec, schedule = PriorSpec(**description["spec"]), Schedule.of(np.array(description["betas"]))
        name, licence = str(description["name"]), str(description["licence"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold a prior this version can build: {_line(error)}") from error
    return Prior(
        network, spec, schedule,
        name=name, licence=licence, fingerprint=sha256_file(path), device=device, precision=precision,
    )  # fmt: skip


def _load_guided_diffusion(
    path: Path, undeclared: Undeclared, device: str | torch.device, precision: Precision
) -> Prior:
    state = read_state(path)
    if not looks_like_guided_diffusion(state):
        first = ", ".join(sorted(state)[:3])
        raise WeightsError(
            f"{path} is no prior: its tensors, {first}, ..., are not those of a U-Net in the guided-diffusion layout"
        )
    try:
        network, learned = to_diffusers(state, undeclared.size, undeclared.attention)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise WeightsError(f"{path} is no U-Net that can be built here: {_line(error)}") from error
    schedule = Schedule.cosine() if undeclared.schedule == "cosine" else Schedule.linear()
    spec = PriorSpec(undeclared.size, "epsilon", "learned_range" if learned else undeclared.variance)
    return Prior(
        network, spec, schedule,
        name=path.name, licence="see its publisher", fingerprint=sha256_file(path), device=device, precision=precision,
    )  # fmt: skip


def _load_diffusers(source: str, device: str | torch.device, precision: Precision) -> Prior:
    folder = opened(fetched(source))
    spec, schedule = spec_of(folder)
    network = network_of(folder)
    return Prior(
        network, spec, schedule,
        name=source.rstrip("/").split(os.sep)[-1], licence="see its publisher",
        fingerprint=_fingerprint(network), device=device, precision=precision,
    )  # fmt: skip


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over the tensors, for models that are not one file."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
