"""Which model a setting names: its name, licence and hash, role by role, and what is wrong with it in one line.

Every function raises ModelError.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError, safe_open

from pipeline.config import DR2, Config
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError
from pipeline.store.named import WEIGHTS, known_file, local, require_licence, require_licence_of
from pipeline.store.record import Role

if TYPE_CHECKING:
    from pipeline.store.record import Record

log = logging.getLogger(__name__)

GUIDED_DIFFUSION = "guided-diffusion"
"""The architecture of priors whose files do not say all that their loader must know."""

GUIDED_DIFFUSION_SIZE = 256
"""Face side of a guided-diffusion checkpoint, which does not record its own."""

TRAINED_STEPS = 1000
"""T of the noise schedules of published priors."""

POLICY_STEP = 10
"""Timesteps of one of a policy's steps."""

_REFIT = "fit one with 'dr2e evaluate --select --n 4 --tau 40 ...' and 'dr2e fit-selection'"
_REMEDY = dict.fromkeys(("detector", "prior", "enhancer"), "train one with 'dr2e train'")
_REMEDY |= {"niqe": "fit one with 'dr2e fit-niqe'", "policy": "fit one with 'dr2e fit-selection'"}

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Model:
    """source: as configured. name, licence: the model's own. sha256: of its weights, "" for none. settings: what its
    files do not say and decides its results, such as how a prior's attention is packed."""

    source: str
    name: str
    licence: str
    sha256: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with settings where there are any."""
        return {name: value for name, value in asdict(self).items() if name != "settings" or value}


def detector(config: Config, record: Record | None) -> Model:
    """What finds faces. record: where the store has it, as of the others."""
    source = config.detect.detector
    if record is not None:
        return _of_store(source, record)
    if source.partition(":")[0] == "retinaface":
        from operators.detect.retinaface import source_of, weights_in  # imports torch

        path = _or_model_error("detector", lambda: weights_in(source_of(source) or source))
        return replace(_published(config, "detector", str(path)), source=source)
    if _is_foreign(source):
        return _published(config, "detector", source)
    return _ours(config, "detector", source)[0]


def removal(config: Config, remover: Record | None, prior: Record | None) -> tuple[Model | None, Model, int, int]:
    """What stands for DR2, if anything does; the prior; the face side, and the bound of the prior's timesteps."""
    source = config.restore.remover
    if source == DR2:
        return (None, *_prior(config, prior))
    none = Model(config.restore.prior, "none", "", "")
    if remover is not None:
        if "size" not in remover.settings:
            raise ModelError(f"remover: the record of {source} does not say the size of its faces; store it again")
        return _of_store(source, remover), none, int(remover.settings["size"]), TRAINED_STEPS
    from operators.swinir_remover import face_size  # imports torch

    size = _or_model_error("remover", lambda: face_size(Path(source)))
    return _published(config, "remover", source), none, size, TRAINED_STEPS


def enhancer(config: Config, record: Record | None) -> Model:
    """What sharpens faces."""
    source = config.enhance.enhancer
    if record is not None:
        return _of_store(source, record)
    if source == "none":
        return Model(source, "bicubic", "Apache-2.0", "")
    if _is_foreign(source):
        return _published(config, "enhancer", source)
    return _ours(config, "enhancer", source)[0]


def upscaler(config: Config, record: Record | None) -> Model | None:
    """What enlarges photos, which is loaded for that: its file alone says how many times it does. None where they keep
    their size."""
    write = config.write
    if write.upscale == 1:
        return None
    from operators.upscale import registry  # imports torch

    path = local(config, "upscaler", write.upscaler).source if write.by_network else write.upscaler
    found = _or_model_error("upscaler", lambda: registry.load(path, write.upscale, tile=write.tile))
    if record is not None:
        return _of_store(write.upscaler, record)
    if write.by_network:
        return _published(config, "upscaler", write.upscaler)
    return Model(write.upscaler, found.name, found.licence, found.fingerprint)


def parser(config: Config, record: Record | None) -> Model | None:
    """What masks faces; None where they are pasted back as ellipses."""
    source = config.write.parser
    if source == "none":
        return None
    if record is not None:
        return _of_store(source, record)
    if not Path(source).is_file():
        raise ModelError(f"parser: {source} is missing; check the path, or use 'none'")
    return _published(config, "parser", source)


def judge(config: Config) -> Model:
    """What scores faces."""
    source = config.restore.niqe
    kind, _, name = source.partition(":")
    if kind != "pyiqa":
        return _ours(config, "niqe", source)[0]
    from operators.quality.judge import check_name, fingerprint_of  # imports torch and pyiqa

    _or_model_error("niqe", lambda: check_name(name))
    return Model(source, f"{name} of pyiqa", "see pyiqa; its code is noncommercial", fingerprint_of(name))


def policy(config: Config, prior: Model, niqe: Model, enhancer: Model, max_timestep: int) -> Model:
    """The policy, which knows the scores of one judge and the candidates of one prior; none when the pair is fixed, or
    drawn for training, or nothing is chosen. With another prior or enhancer it chooses as if it knew them."""
    if config.restore.select == "fixed" or config.pairs is not None or config.restore.remover != DR2:
        return Model(config.restore.policy, "none", "", "")
    found, description = _ours(config, "policy", config.restore.policy)
    try:
        fitted_with = {role: str(model["sha256"]) for role, model in description["fitted_with"].items()}
    except (KeyError, TypeError, AttributeError):
        raise ModelError(f"policy: {found.source} does not say what it was fitted to; {_REFIT}") from None
    if fitted_with.get("niqe") != niqe.sha256:
        raise ModelError(
            f"policy: {found.name} was not fitted to the scores of {niqe.name}; {_REFIT}, or use --n and --tau"
        )
    steps = [*description.get("probe", ()), *(tau for _, tau in description.get("pairs", ()))]
    if steps and (most := max(steps) * POLICY_STEP) >= max_timestep:
        raise ModelError(
            f"policy: {found.name} goes to tau = {most}, and prior {prior.name!r} was trained below {max_timestep}; "
            f"{_REFIT}, or use --n and --tau"
        )
    for role, model in (("prior", prior), ("enhancer", enhancer)):
        if model.sha256 and fitted_with.get(role) != model.sha256:
            log.warning("policy %s was fitted to another %s than %s; %s", found.name, role, model.name, _REFIT)
    return found


def _prior(config: Config, record: Record | None) -> tuple[Model, int, int]:
    """The prior, its face side, and the bound of its timesteps."""
    source = config.restore.prior
    if record is not None:
        size, steps = (record.settings.get(name) for name in ("size", "max_timestep"))
        model = _of_store(source, record)
        if record.architecture == GUIDED_DIFFUSION:
            model = replace(model, settings=_undeclared(record.settings))
        return model, int(size or GUIDED_DIFFUSION_SIZE), int(steps or TRAINED_STEPS)
    if _is_foreign(source):
        model = replace(_published(config, "prior", source), settings=_undeclared({}))
        return model, GUIDED_DIFFUSION_SIZE, TRAINED_STEPS
    if source == "builtin" or Path(source).suffix in WEIGHTS:
        model, description = _ours(config, "prior", source)
        spec = description["spec"]
        return model, int(spec["size"]), int(spec.get("max_timestep", TRAINED_STEPS))
    return _diffusers(source)


def _undeclared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a guided-diffusion file does not say of itself, as it will be loaded."""
    from operators.dr2.guided_diffusion import Undeclared  # imports torch

    return asdict(_or_model_error("prior", lambda: Undeclared.of(settings)))


def _diffusers(source: str) -> tuple[Model, int, int]:
    """A prior in diffusers' layout, its face side, and the bound of its timesteps."""
    from operators.dr2.folder import fetched, opened, spec_of  # imports torch

    folder = _or_model_error("prior", lambda: opened(fetched(source)))
    spec, _ = _or_model_error("prior", lambda: spec_of(folder))
    weights = _or_model_error("prior", lambda: folder.weights)
    name = source.rstrip("/").rpartition("/")[2]
    return Model(source, name, "see its publisher", sha256_of(weights)), spec.size, spec.max_timestep


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
            recognised = recognise(Path(source))
        except ModelError as error:
            raise ModelError(f"{role}: {error}") from None
        found, name, licence = recognised.role, Path(source).name, recognised.licence or "see its publisher"
        require_licence_of(config, recognised.architecture, name)
        require_licence(config, name, recognised.licence)
    if found != role:
        raise ModelError(f"{role}: {source} holds a model of kind '{found}'; name one of kind '{role}'")
    return Model(source, name, licence, sha256)


def _of_store(source: str, record: Record) -> Model:
    return Model(source, record.name, record.licence, record.sha256)


def _ours(config: Config, role: str, source: str) -> tuple[Model, dict[str, Any]]:
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
    name, licence = str(description.get("name", path.stem)), str(description.get("licence", "unknown"))
    require_licence(config, name, licence)
    return Model(source, name, licence, sha256_of(path)), description


def _or_model_error(role: str, find: Callable[[], _Found]) -> _Found:
    """What `find` finds, and for a WeightsError, which names the file and the remedy, a ModelError."""
    from operators.training.weights import WeightsError

    try:
        return find()
    except WeightsError as error:
        raise ModelError(f"{role}: {error}") from None
