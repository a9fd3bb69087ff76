"""A prior in diffusers' layout: a folder with a U-Net, its configuration and that of a scheduler, or the hub's name of
one. Read here as data: the configurations as JSON, the weights as tensors that must all be there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from operators.dr2.prior import Prediction, PriorSpec, Variance
from operators.dr2.schedule import Schedule
from operators.dr2.unet import DDPMScheduler, UNet2DModel
from operators.training.weights import WeightsError
from operators.weights.reading import read_state

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
"""What diffusers calls the weights, the safer format first."""

_SCHEDULERS = frozenset({"DDPMScheduler", "DDIMScheduler", "PNDMScheduler"})
"""Those whose betas and predictions mean what a DDPM's do."""

_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_VARIANCES: dict[str, Variance] = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",  # the same number, kept as its logarithm
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": "learned_range",
}
_SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")

_MOST_STEPS = 10_000
"""Timesteps of a schedule at most; published ones have 1000 or 4000."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What attention layers were called before diffusers 0.15, and still are in the hub's older models."""


@dataclass(frozen=True)
class Folder:
    """unet: the folder of the U-Net. network, scheduler: the two configurations, as they were read."""

    unet: Path
    network: Mapping[str, Any]
    scheduler: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Side of the faces in pixels. Raises WeightsError."""
        size = self.network.get("sample_size")
        if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
            size = size[0]
        if not isinstance(size, int) or isinstance(size, bool) or not 8 <= size <= 2048:
            raise WeightsError(f"{self.unet / 'config.json'}: sample_size is {size!r}, and no side of square faces")
        return size

    @property
    def outputs(self) -> int:
        """The network's channels: 3, or 6 with a learned variance. Raises WeightsError."""
        outputs = self.network.get("out_channels", 3)
        if outputs not in (3, 6):
            raise WeightsError(f"{self.unet / 'config.json'}: out_channels is {outputs!r}; a prior has 3 or 6")
        return int(outputs)

    @property
    def weights(self) -> Path:
        """The file of the U-Net's tensors. Raises WeightsError."""
        for name in _WEIGHTS:
            if (self.unet / name).is_file():
                return self.unet / name
        raise WeightsError(f"{self.unet} has no weights; put {_WEIGHTS[0]} or {_WEIGHTS[1]} there")


def fetched(source: str) -> Path:
    """The folder `source`, or the one that the hub has by this name, downloaded unless it was before.

    Raises WeightsError where there is none, or the hub cannot be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not _HUB_NAME.fullmatch(source):
        raise WeightsError(f"{source} is no file and no folder; check the path")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", *(f"*{name}" for name in _WEIGHTS)]))
    except Exception as error:  # its errors share no base class: bad name, no network, no access
        raise WeightsError(
            f"{source} is neither a file, nor a folder, nor a hub model that can be reached "
            f"({type(error).__name__}); check the name, or download it and name its folder"
        ) from None


def opened(folder: Path) -> Folder:
    """A folder's configurations: of a pipeline, with `unet` and `scheduler` in it, or both side by side.

    Raises WeightsError where one is missing or no JSON.
    """
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    return Folder(unet, _json(unet / "config.json"), _json(scheduler / "scheduler_config.json"))


def network_of(folder: Folder) -> UNet2DModel:
    """The U-Net with its weights in float32. Raises WeightsError, one line, for another network or other weights."""
    settings = folder.unet / "config.json"
    if (kind := folder.network.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise WeightsError(f"{settings} describes a {kind}; a prior is a UNet2DModel")
    if folder.network.get("num_class_embeds") is not None or folder.network.get("class_embed_type") is not None:
        raise WeightsError(f"{settings} describes a network that wants the class of what it draws; a prior knows none")
    size = folder.size
    try:
        with torch.device("meta"):  # nothing is allocated on the word of a configuration
            network = UNet2DModel.from_config({k: v for k, v in folder.network.items() if not k.startswith("_")})
    except Exception as error:  # diffusers raises whatever its layers meet in a configuration
        raise WeightsError(f"{settings} describes no U-Net that can be built: {_line(error)}") from None
    if network.config.in_channels != 3:
        raise WeightsError(f"{settings}: in_channels is {network.config.in_channels}; a prior takes 3")
    if size % (halvings := 2 ** (len(network.config.block_out_channels) - 1)):
        raise WeightsError(f"{settings}: sample_size is {size}, and not a multiple of {halvings}")
    weights = folder.weights
    state = {_today(key): value.float() for key, value in read_state(weights).items()}
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{weights} holds another network than {settings} describes: {_line(error)}") from None
    return network


def spec_of(folder: Folder) -> tuple[PriorSpec, Schedule]:
    """What the scheduler's configuration says of the network's output, and its noise schedule.

    Raises WeightsError for what is not known here.
    """
    declared, where, outputs = folder.scheduler, f"the scheduler of {folder.unet}", folder.outputs
    kind = declared.get("_class_name", "DDPMScheduler")
    if kind not in _SCHEDULERS:
        raise WeightsError(f"{where} is a {kind}; known are {', '.join(sorted(_SCHEDULERS))}")
    if declared.get("rescale_betas_zero_snr"):
        raise WeightsError(f"{where} ends in pure noise (rescale_betas_zero_snr), from which nothing can be estimated")
    prediction = declared.get("prediction_type") or "epsilon"
    if prediction not in _PREDICTIONS:
        raise WeightsError(f"{where} has prediction_type {prediction!r}; known are {', '.join(_PREDICTIONS)}")
    named = declared.get("variance_type") or ("learned_range" if outputs == 6 else "fixed_small")
    if named not in _VARIANCES:
        raise WeightsError(f"{where} has variance_type {named!r}; known are {', '.join(_VARIANCES)}")
    variance = _VARIANCES[named]
    if (variance == "learned_range") != (outputs == 6):
        raise WeightsError(f"{where} has variance_type {named!r}, which a network of {outputs} outputs does not fit")
    schedule = _schedule(declared, where)
    return PriorSpec(folder.size, cast(Prediction, prediction), variance, max_timestep=len(schedule)), schedule


def _schedule(declared: Mapping[str, Any], where: str) -> Schedule:
    """The betas that diffusers makes of a scheduler's configuration."""
    given = {name: declared[name] for name in _SCHEDULE if declared.get(name) is not None}
    if not 20 <= _steps(given) <= _MOST_STEPS:
        raise WeightsError(f"{where} has no number of timesteps from 20 to {_MOST_STEPS}")
    try:
        betas: Tensor = DDPMScheduler(**given).betas
        return Schedule.of(betas.double().numpy())
    except Exception as error:  # as from a network's configuration
        raise WeightsError(f"{where} describes no noise schedule: {_line(error)}") from None


def _steps(given: Mapping[str, Any]) -> int:
    """How many timesteps there would be; 0 for nonsense."""
    betas, count = given.get("trained_betas"), given.get("num_train_timesteps", 1000)
    if betas is not None:
        return len(betas) if isinstance(betas, list) else 0
    return count if isinstance(count, int) else 0


def _today(key: str) -> str:
    """A tensor's name, as diffusers has it today."""
    *parts, layer, tensor = key.split(".")
    if not parts or "attentions" not in parts:
        return key
    return ".".join([*parts, _OLD_ATTENTION.get(layer, layer), tensor])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing; a prior in diffusers' layout has one") from None
    except (OSError, ValueError, RecursionError):
        raise WeightsError(f"{path} is not readable as JSON; get it anew") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds no settings; get it anew")
    return found


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
