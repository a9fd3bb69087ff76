"""The models a configuration names: found and identified before anything starts, without loading them.

The weights of a run are part of its identity: their hashes go into ``run.json`` and every commit record.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from pipeline.config import Config

log = logging.getLogger(__name__)

GUIDED_DIFFUSION_SIZE = 256
"""Face side of a guided-diffusion checkpoint, which does not record its own."""

TRAINED_STEPS = 1000
"""T of the noise schedules of published priors."""

_REFIT = "fit one with 'dr2e evaluate --select --n 4 --tau 40 ...' and 'dr2e fit-selection'"
_REMEDY = dict.fromkeys(("detector", "prior", "enhancer"), "train one with 'dr2e train'")
_REMEDY |= {"niqe": "fit one with 'dr2e fit-niqe'", "policy": "fit one with 'dr2e fit-selection'"}
_STATE_DICTS = {".pt", ".pth", ".pkl", ".ckpt", ".bin"}


_Loaded = TypeVar("_Loaded")


class ModelError(ValueError):
    """A model is missing or of another kind than its role asks for; one line naming it and the remedy."""


@dataclass(frozen=True)
class Model:
    """source: as configured. name, licence: the model's own. sha256: of its weights, "" for none."""

    source: str
    name: str
    licence: str
    sha256: str


ROLES = ("detector", "prior", "niqe", "policy", "enhancer")
OPTIONAL = ("upscaler", "parser")
"""Those that take part where they are asked for."""


@dataclass(frozen=True)
class Models:
    """The models of a run.

    face_size: side of the aligned faces in pixels, as the prior wants them. max_timestep: the prior was trained
    below it.
    """

    detector: Model
    prior: Model
    niqe: Model
    policy: Model
    enhancer: Model
    face_size: int
    max_timestep: int = TRAINED_STEPS
    upscaler: Model | None = None
    parser: Model | None = None

    def to_json(self) -> dict[str, dict[str, str]]:
        """Role to source, name, licence and sha256, of those that take part."""
        there = {role: getattr(self, role) for role in (*ROLES, *OPTIONAL)}
        return {role: asdict(model) for role, model in there.items() if model is not None}


def describe(config: Config) -> Models:
    """Find and identify the models of ``config``. Raises ModelError."""
    for role, source in sources(config).items():
        if "://" in source:  # not shown: it may be a signed one, and the source is recorded
            raise ModelError(f"{role}: models are not read from URLs; download it and name the file, or use 'builtin'")
    prior, size, max_timestep = _prior(config.restore.prior)
    niqe, enhancer = _judge(config.restore.niqe), _enhancer(config.enhance.enhancer)
    if config.restore.tau is not None and config.restore.tau >= max_timestep:
        raise ModelError(
            f"restore.tau: {config.restore.tau} is more than prior {prior.name!r} was trained at ({max_timestep})"
        )
    return Models(
        detector=_detector(config.detect.detector),
        prior=prior,
        niqe=niqe,
        policy=_policy(config, prior, niqe, enhancer),
        enhancer=enhancer,
        face_size=size,
        max_timestep=max_timestep,
        upscaler=_upscaler(config),
        parser=_parser(config.write.parser),
    )


def sources(config: Config) -> dict[str, str]:
    """The models as configured, by role."""
    return {
        "detector": config.detect.detector,
        "prior": config.restore.prior,
        "niqe": config.restore.niqe,
        "policy": config.restore.policy,
        "enhancer": config.enhance.enhancer,
        "upscaler": config.write.upscaler,
        "parser": config.write.parser,
    }


def _detector(source: str) -> Model:
    if source.partition(":")[0] != "retinaface" and Path(source).suffix not in _STATE_DICTS:
        return _ours("detector", source)[0]
    from operators.detect.retinaface import RetinaFaceDetector, source_of  # torch and facexlib, for those who use it

    found = _loaded("detector", lambda: RetinaFaceDetector.load(source_of(source) or source))
    return Model(source, "RetinaFace", "MIT", found.fingerprint)


def _upscaler(config: Config) -> Model | None:
    """What enlarges photos; None where they keep their size."""
    write = config.write
    if write.upscale == 1:
        return None
    from operators.upscale import registry

    found = _loaded("upscaler", lambda: registry.load(write.upscaler, write.upscale, tile=write.tile))
    return Model(write.upscaler, found.name, found.licence, found.fingerprint)


def _parser(source: str) -> Model | None:
    """What masks faces; None where they are pasted back as ellipses."""
    if source == "none":
        return None
    from operators.parse.parsenet import FaceParser

    found = _loaded("parser", lambda: FaceParser.load(Path(source)))
    return Model(source, found.name, found.licence, found.fingerprint)


def _loaded(role: str, load: Callable[[], _Loaded]) -> _Loaded:
    """A model of others, whose file says what is wrong with it when it is read. Raises ModelError."""
    from operators.training.weights import WeightsError

    try:
        return load()
    except WeightsError as error:
        raise ModelError(f"{role}: {error}") from None


def _enhancer(source: str) -> Model:
    if source == "none":
        return Model(source, "bicubic", "Apache-2.0", "")
    return _ours("enhancer", source)[0]


def _judge(source: str) -> Model:
    kind, _, name = source.partition(":")
    if kind != "pyiqa":
        return _ours("niqe", source)[0]
    from operators.quality.judge import check_name, fingerprint_of  # imports torch and pyiqa
    from operators.training.weights import WeightsError

    try:
        check_name(name)
    except WeightsError as error:
        raise ModelError(f"niqe: {error}") from None
    return Model(source, f"{name} of pyiqa", "see pyiqa; its code is noncommercial", fingerprint_of(name))


def _policy(config: Config, prior: Model, niqe: Model, enhancer: Model) -> Model:
    """The policy, which knows the scores of one judge and the candidates of one prior; none when the pair is fixed, or
    drawn for training."""
    if config.restore.select == "fixed" or config.pairs is not None:
        return Model(config.restore.policy, "none", "", "")
    policy, description = _ours("policy", config.restore.policy)
    try:
        fitted_with = {role: str(model["sha256"]) for role, model in description["fitted_with"].items()}
    except (KeyError, TypeError, AttributeError):
        raise ModelError(f"policy: {policy.source} does not say what it was fitted to; {_REFIT}") from None
    if fitted_with.get("niqe") != niqe.sha256:
        raise ModelError(
            f"policy: {policy.name} was not fitted to the scores of {niqe.name}; {_REFIT}, or use --n and --tau"
        )
    for role, model in (("prior", prior), ("enhancer", enhancer)):
        if model.sha256 and fitted_with.get(role) != model.sha256:
            log.warning("policy %s was fitted to another %s than %s; %s", policy.name, role, model.name, _REFIT)
    return policy


def _prior(source: str) -> tuple[Model, int, int]:
    """The prior, its face side, and the bound of its timesteps."""
    path = Path(source)
    if source == "builtin" or path.suffix == ".safetensors":
        model, description = _ours("prior", source)
        spec = description["spec"]
        return model, int(spec["size"]), int(spec.get("max_timestep", TRAINED_STEPS))
    if path.suffix in _STATE_DICTS:
        if not path.is_file():
            raise ModelError(f"prior: {path} is missing; check the path, or use 'builtin'")
        return Model(source, path.name, "see its publisher", _sha256([path])), GUIDED_DIFFUSION_SIZE, TRAINED_STEPS
    return (*_diffusers(source), TRAINED_STEPS)


def _diffusers(source: str) -> tuple[Model, int]:
    folder = Path(source)
    if not folder.is_dir():
        try:
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(source))
        except Exception as error:  # its errors share no base class: bad name, no network, no access
            raise ModelError(
                f"prior: {source} is neither a file, nor a folder, nor a hub model that can be reached "
                f"({type(error).__name__}); check the name, or use 'builtin'"
            ) from None
    nested = folder / "unet" / "config.json"
    settings = nested if nested.is_file() else folder / "config.json"
    try:
        size = int(json.loads(settings.read_text(encoding="utf-8"))["sample_size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(f"prior: {settings} does not describe a diffusers UNet2DModel with a sample_size") from None
    weights = sorted(path for path in settings.parent.iterdir() if path.suffix in {".bin", ".safetensors"})
    return Model(source, source.rstrip("/").rpartition("/")[2], "see its publisher", _sha256(weights)), size


def _ours(role: str, source: str) -> tuple[Model, dict[str, Any]]:
    """A model in this project's safetensors format, and the description in its header."""
    path = Path(str(files("operators") / "weights" / f"{role}.safetensors")) if source == "builtin" else Path(source)
    if not path.is_file():
        remedy = f"reinstall dr2e, or {_REMEDY[role]}" if source == "builtin" else "check the path, or use 'builtin'"
        raise ModelError(f"{role}: {path} is missing; {remedy}")
    try:
        with safe_open(str(path), framework="np") as file:
            description = json.loads((file.metadata() or {})["dr2e"])
        kind = description["kind"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError):
        raise ModelError(f"{role}: {path} is damaged or not a model of dr2e; {_REMEDY[role]}") from None
    if kind != role:
        raise ModelError(f"{role}: {path} holds a model of kind '{kind}'; name one of kind '{role}'")
    name, licence = description.get("name", path.stem), description.get("licence", "unknown")
    return Model(source, str(name), str(licence), _sha256([path])), description


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        for block in _blocks(path):
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(2**20):
            yield block
