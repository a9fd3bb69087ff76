"""What a file of weights is, told by the names of its tensors and then by loading it with what a run loads it with.

A kind of model that runs can use is one entry of `KINDS`; enhancers come from their registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.store.catalogue import by_sha256, licence_of_architecture
from pipeline.store.errors import ModelError
from pipeline.store.licences import strictest
from pipeline.store.record import Role

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Recognised:
    """name: as a file of ours says itself, "" for others. licence: as the file says, or what is known of the one it was
    converted from, or of all of its architecture; "" where nothing is. settings: see `Record`. file: the name its
    loader looks for, None where any will do."""

    role: Role
    architecture: str
    name: str = ""
    licence: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = None


def _no_settings(state: State) -> Mapping[str, Any]:
    """Of tensors that tell none."""
    return {}


@dataclass(frozen=True)
class Kind:
    """A kind of model that is no enhancer. recognises: by the names and shapes of its tensors alone. settings: what of
    a record's settings they tell."""

    role: Role
    architecture: str
    recognises: Callable[[State], bool]
    file: str | None = None
    settings: Callable[[State], Mapping[str, Any]] = _no_settings


def _is_guided_diffusion(state: State) -> bool:
    from operators.dr2.guided_diffusion import looks_like_guided_diffusion

    return looks_like_guided_diffusion(state)


def _is_retinaface(state: State) -> bool:
    return "BboxHead.0.conv1x1.weight" in state and "body.conv1.weight" in state


def _is_small_retinaface(state: State) -> bool:
    return "BboxHead.0.conv1x1.weight" in state and "body.stage1.0.0.weight" in state


def _is_parsenet(state: State) -> bool:
    return "out_mask_conv.conv2d.weight" in state and "encoder.0.conv2d.weight" in state


def _is_remover(state: State) -> bool:
    from operators.swinir_remover import recognises

    return recognises(state)


def _size_of_remover(state: State) -> Mapping[str, Any]:
    from operators.swinir_remover import size_of

    return {"size": size_of(state)}


KINDS: tuple[Kind, ...] = (
    Kind("prior", "guided-diffusion", _is_guided_diffusion),
    Kind("detector", "RetinaFace ResNet-50", _is_retinaface, "detection_Resnet50_Final.pth"),
    Kind("detector", "RetinaFace MobileNet-0.25", _is_small_retinaface, "detection_mobilenet0.25_Final.pth"),
    Kind("parser", "ParseNet", _is_parsenet),
    Kind("remover", "SwinIR", _is_remover, settings=_size_of_remover),
)


def recognise(path: Path) -> Recognised:
    """What the file at `path` is; it is read, and nothing in it is run.

    Raises ModelError for what is damaged, no weights, or of no architecture that is known.
    """
    from operators.enhance.registry import ARCHITECTURES
    from operators.training.weights import WeightsError, is_ours
    from operators.upscale.network import architecture_of
    from operators.weights.reading import read_state

    try:
        state = read_state(path)
        if is_ours(path):
            return _ours(path)
    except WeightsError as error:
        raise ModelError(str(error)) from None
    for kind in KINDS:
        if kind.recognises(state):
            licence = _licence_of(path, kind.architecture)
            return Recognised(kind.role, kind.architecture, "", licence, kind.settings(state), kind.file)
    for architecture in ARCHITECTURES:
        if architecture.recognises(state):
            return Recognised("enhancer", architecture.name, licence=_licence_of(path, architecture.name))
    if (upscaler := architecture_of(state)) is not None:
        return Recognised("upscaler", upscaler, licence=_licence_of(path, upscaler))
    known = ", ".join([kind.architecture for kind in KINDS] + [architecture.name for architecture in ARCHITECTURES])
    first = ", ".join(sorted(state)[:3])
    raise ModelError(f"{path} is of no architecture that is known here ({known}); its tensors are called {first}, ...")


def settings_of(path: Path, architecture: str) -> Mapping[str, Any]:
    """What of a record's settings the tensors of a file tell, which is known to be of `architecture`. It is read only
    where there are such. Raises ModelError."""
    from operators.training.weights import WeightsError
    from operators.weights.reading import read_state

    for kind in KINDS:
        if kind.architecture == architecture and kind.settings is not _no_settings:
            try:
                return kind.settings(read_state(path))
            except (ValueError, IndexError, ZeroDivisionError) as error:
                where = "" if isinstance(error, WeightsError) else f"{path} is no {architecture} that is known here: "
                raise ModelError(f"{where}{error}") from None
    return {}


def diffusers_files(folder: Path) -> tuple[Recognised, dict[str, Path]]:
    """A prior in diffusers' layout, and the files that a store keeps of it, side by side, by their names there.

    Raises ModelError for a folder that is none.
    """
    from operators.dr2.folder import opened, spec_of
    from operators.training.weights import WeightsError

    if not any((place / DIFFUSERS).is_file() for place in (folder, folder / "unet")):
        raise ModelError(
            f"{folder} holds no {DIFFUSERS}; name a weights file, or the folder of a diffusers UNet2DModel"
        )
    try:
        found = opened(folder)
        spec, _ = spec_of(found)
        weights = found.weights
    except WeightsError as error:
        raise ModelError(str(error)) from None
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder  # as `opened` looks for it
    files = {DIFFUSERS: found.unet / DIFFUSERS, weights.name: weights, _SCHEDULER: scheduler / _SCHEDULER}
    settings = {"size": spec.size, "max_timestep": spec.max_timestep}
    return Recognised("prior", "diffusers UNet2DModel", settings=settings), files


def header_of(path: Path) -> Mapping[str, str]:
    """What the header of a safetensors file says beside its tensors; nothing for other files."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return {}


def _licence_of(path: Path, architecture: str) -> str:
    """What is known of the licence of a file that is not ours. `convert` writes it into the header."""
    header = header_of(path)
    source = by_sha256(header.get("sha256_of_source", ""))
    known = source.licence if source is not None and source.architecture == architecture else None
    said = "".join(c for c in header.get("licence", "") if c.isprintable()).strip()[:100]
    return strictest((known, said, licence_of_architecture(architecture)))


def try_load(folder: Path, file: str, role: Role, settings: Mapping[str, Any]) -> None:
    """Load a model as a run does, or of a metric as an evaluation does, on the CPU, and forget it. Raises ModelError
    when that fails."""
    from operators.enhance.contract import OptionError
    from operators.enhance.registry import UnknownEnhancer
    from operators.training.weights import WeightsError
    from pipeline.store.loading import (
        detector_of,
        enhancer_of,
        metric_of,
        parser_of,
        prior_of,
        remover_of,
        upscaler_of,
    )

    path = folder / file
    try:
        if role == "enhancer":
            enhancer_of(str(path), "cpu")
        elif role == "prior":
            prior_of(str(folder if file == DIFFUSERS else path), "cpu", settings)
        elif role == "detector":
            detector_of(str(path), "cpu")
        elif role == "remover":
            remover_of(str(path), "cpu")
        elif role == "parser":
            parser_of(str(path), "cpu")
        elif role == "upscaler":
            upscaler_of(str(path), "cpu")
        elif role == "metric":
            metric_of(folder)
    except (WeightsError, UnknownEnhancer, OptionError) as error:
        raise ModelError(str(error)) from None


DIFFUSERS = "config.json"
"""The file that tells a folder in diffusers' layout."""

_SCHEDULER = "scheduler_config.json"


def _ours(path: Path) -> Recognised:
    """A file of `dr2e train`."""
    from operators.training.weights import WeightsError, load_weights

    try:
        _, description = load_weights(path)
        kind, settings = description.get("kind"), {}
        if kind == "prior":
            spec = description["spec"]
            settings = {"size": spec["size"], "max_timestep": spec.get("max_timestep", 1000)}
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(
            f"{path} does not describe itself as 'dr2e train' does; train it anew, or get it anew"
        ) from None
    if kind not in ("prior", "enhancer", "detector"):
        raise ModelError(f"{path} holds a {kind!r} model, which a run takes by its path and not from a store")
    name, licence = str(description.get("name", path.stem)), str(description.get("licence", "unknown"))
    return Recognised(kind, f"dr2e {kind}", name, licence, settings)
