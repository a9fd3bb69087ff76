"""The models a configuration names: found and identified before anything starts, as a rule without loading them.

The weights of a run are part of its identity: their hashes go into ``run.json`` and every commit record.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from operators.enhance.contract import DEFAULTS, OptionError, Options
from pipeline.config import Config
from pipeline.store.copies import check_in_place
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError as ModelError  # who asks for models hears of it from here
from pipeline.store.named import WEIGHTS, Local, find, is_stored_name, known_file, local, store_of
from pipeline.store.record import Role

if TYPE_CHECKING:
    from pipeline.store.record import Record

log = logging.getLogger(__name__)

GUIDED_DIFFUSION_SIZE = 256
"""Face side of a guided-diffusion checkpoint, which does not record its own."""

TRAINED_STEPS = 1000
"""T of the noise schedules of published priors."""

POLICY_STEP = 10
"""Timesteps of one of a policy's steps."""

_REFIT = "fit one with 'dr2e evaluate --select --n 4 --tau 40 ...' and 'dr2e fit-selection'"
_REMEDY = dict.fromkeys(("detector", "prior", "enhancer"), "train one with 'dr2e train'")
_REMEDY |= {"niqe": "fit one with 'dr2e fit-niqe'", "policy": "fit one with 'dr2e fit-selection'"}
_RETINAFACE = "detection_Resnet50_Final.pth"


@dataclass(frozen=True)
class Model:
    """source: as configured. name, licence: the model's own. sha256: of its weights, "" for none."""

    source: str
    name: str
    licence: str
    sha256: str


ROLES = ("detector", "prior", "niqe", "policy", "enhancer")

STORED: tuple[Role, ...] = ("detector", "prior", "enhancer")
"""Those of them that a store may hold."""


@dataclass(frozen=True)
class Models:
    """The models of a run.

    face_size: side of the aligned faces in pixels, as the prior wants them. max_timestep: the prior was trained
    below it. stored: SHA-256 by name of those that are of a store.
    """

    detector: Model
    prior: Model
    niqe: Model
    policy: Model
    enhancer: Model
    face_size: int
    max_timestep: int = TRAINED_STEPS
    stored: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, dict[str, str]]:
        """Role to source, name, licence and sha256."""
        other = {} if self.remover is None else {"remover": asdict(self.remover)}
        return other | {role: asdict(getattr(self, role)) for role in ROLES}


def describe(config: Config) -> Models:
    """Find and identify the models of ``config``. Raises ModelError, and StorageError for a store out of reach."""
    for role, source in sources(config).items():
        if "://" in source:  # not shown: it may be a signed one, and the source is recorded
            raise ModelError(
                f"{role}: models are not read from URLs; 'dr2e models add' it and give its name, or name a file"
            )
    stored = {
        role: _stored(config, role, source)
        for role in STORED
        if is_stored_name(config, source := sources(config)[role])
    }
    prior, size, max_timestep = _prior(config, stored.get("prior"))
    niqe, enhancer = _judge(config.restore.niqe), _enhancer(config, stored.get("enhancer"))
    if config.restore.tau is not None and config.restore.tau >= max_timestep:
        raise ModelError(
            f"restore.tau: {config.restore.tau} is more than prior {prior.name!r} was trained at ({max_timestep})"
        )
    _check_options(config)
    return Models(
        detector=_detector(config, stored.get("detector")),
        prior=prior,
        niqe=niqe,
        policy=_policy(config, prior, niqe, enhancer, max_timestep),
        enhancer=enhancer,
        face_size=size,
        max_timestep=max_timestep,
        stored={record.name: record.sha256 for record in stored.values()},
    )


def sources(config: Config) -> dict[str, str]:
    """The models as configured, by role."""
    return {
        "detector": config.detect.detector,
        "prior": config.restore.prior,
        "niqe": config.restore.niqe,
        "policy": config.restore.policy,
        "enhancer": config.enhance.enhancer,
        "remover": config.restore.remover,
    }


def local_model(config: Config, role: Role) -> Local:
    """The model of ``role`` on this machine, ready to be loaded: a worker's side. Raises ModelError, StorageError."""
    return local(config, role, sources(config)[role])


def enhancer_options(config: Config) -> Options:
    """How the enhancer is to work."""
    return Options(config.enhance.fidelity, config.enhance.precision)


def _stored(config: Config, role: Role, name: str) -> Record:
    """A model of the store, which is looked at, but not copied."""
    record = find(config, role, name)
    check_in_place(store_of(config), record)
    return record


def _of_store(source: str, record: Record) -> Model:
    return Model(source, record.name, record.licence, record.sha256)


def _check_options(config: Config) -> None:
    """Raises ModelError for options that the enhancer does not have. Only who gives some waits until it is loaded."""
    options = enhancer_options(config)
    if options == DEFAULTS:
        return
    from operators.training.weights import WeightsError
    from pipeline.store.loading import enhancer_of

    found = local_model(config, "enhancer")
    try:
        enhancer_of(found.source, "cpu", options, found.identity)
    except (OptionError, WeightsError) as error:
        raise ModelError(str(error)) from None


def _detector(config: Config, record: Record | None) -> Model:
    source = config.detect.detector
    if record is not None:
        return _of_store(source, record)
    kind, _, folder = source.partition(":")
    if kind == "retinaface":
        path = Path(folder) / _RETINAFACE
        if not path.is_file():
            raise ModelError(f"detector: {path} is missing; put facexlib's RetinaFace weights there, or use 'builtin'")
        return Model(source, "RetinaFace", "MIT", sha256_of(path))
    if _is_foreign(source):
        return _published(config, "detector", source)
    return _ours("detector", source)[0]


def _enhancer(config: Config, record: Record | None) -> Model:
    source = config.enhance.enhancer
    if record is not None:
        return _of_store(source, record)
    if source == "none":
        return Model(source, "bicubic", "Apache-2.0", "")
    if _is_foreign(source):
        return _published(config, "enhancer", source)
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


def _policy(config: Config, prior: Model, niqe: Model, enhancer: Model, max_timestep: int) -> Model:
    """The policy, which knows the scores of one judge and the candidates of one prior; none when the pair is fixed, or
    drawn for training. With another prior or enhancer it chooses as if it knew them."""
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
    steps = [*description.get("probe", ()), *(tau for _, tau in description.get("pairs", ()))]
    if steps and (most := max(steps) * POLICY_STEP) >= max_timestep:
        raise ModelError(
            f"policy: {policy.name} goes to tau = {most}, and prior {prior.name!r} was trained below {max_timestep}; "
            f"{_REFIT}, or use --n and --tau"
        )
    for role, model in (("prior", prior), ("enhancer", enhancer)):
        if model.sha256 and fitted_with.get(role) != model.sha256:
            log.warning("policy %s was fitted to another %s than %s; %s", policy.name, role, model.name, _REFIT)
    return policy


def _prior(config: Config, record: Record | None) -> tuple[Model, int, int]:
    """The prior, its face side, and the bound of its timesteps."""
    source = config.restore.prior
    if record is not None:
        size, steps = (record.settings.get(name) for name in ("size", "max_timestep"))
        return _of_store(source, record), int(size or GUIDED_DIFFUSION_SIZE), int(steps or TRAINED_STEPS)
    if _is_foreign(source):
        return _published(config, "prior", source), GUIDED_DIFFUSION_SIZE, TRAINED_STEPS
    if source == "builtin" or Path(source).suffix in WEIGHTS:
        model, description = _ours("prior", source)
        spec = description["spec"]
        return model, int(spec["size"]), int(spec.get("max_timestep", TRAINED_STEPS))
    return (*_diffusers(source), TRAINED_STEPS)


def _is_foreign(source: str) -> bool:
    """Whether `source` is a weight file that is there and not of ours."""
    path = Path(source)
    if path.suffix.lower() not in WEIGHTS or not path.is_file():
        return False
    if path.suffix != ".safetensors":
        return True
    try:
        with safe_open(str(path), framework="np") as file:
            return "dr2e" not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False  # `_ours` says what is wrong with it


def _published(config: Config, role: Role, source: str) -> Model:
    """A checkpoint that others published, by its bytes one that is known, or else one that is recognised."""
    sha256 = sha256_of(Path(source))
    known = known_file(config, sha256)
    if known is not None:
        found, name, licence = known.role, known.name, known.licence
    else:
        from pipeline.store.recognise import recognise  # which reads it

        try:
            found, name, licence = recognise(Path(source)).role, Path(source).name, "see its publisher"
        except ModelError as error:
            raise ModelError(f"{role}: {error}") from None
    if found != role:
        raise ModelError(f"{role}: {source} holds a model of kind '{found}'; name one of kind '{role}'")
    return Model(source, name, licence, sha256)


def _diffusers(source: str) -> tuple[Model, int]:
    folder = Path(source)
    if not folder.is_dir():
        try:
            from huggingface_hub import snapshot_download

    try:
        size = int(json.loads(settings.read_text(encoding="utf-8"))["sample_size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(f"prior: {settings} does not describe a diffusers UNet2DModel with a sample_size") from None
    weights = sorted(path for path in settings.parent.iterdir() if path.suffix in {".bin", ".safetensors"})
    return Model(source, source.rstrip("/").rpartition("/")[2], "see its publisher", _sha256_of_all(weights)), size


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
    return Model(source, str(name), str(licence), sha256_of(path)), description


def _sha256_of_all(paths: list[Path]) -> str:
    """Of the bytes of several files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
