"""The models a configuration names: found and identified before anything starts, as a rule without loading them.

The weights of a run are part of its identity: their hashes go into ``run.json`` and every commit record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from operators.enhance.contract import DEFAULTS, OptionError, Options
from pipeline import identify
from pipeline.config import DR2, Config
from pipeline.identify import TRAINED_STEPS, Model
from pipeline.store.copies import check_in_place
from pipeline.store.errors import ModelError as ModelError  # who asks for models hears of it from here
from pipeline.store.named import Local, find, is_stored_name, local, store_of
from pipeline.store.record import Role

if TYPE_CHECKING:
    from pipeline.store.record import Record

ROLES = ("detector", "prior", "niqe", "policy", "enhancer")
OPTIONAL = ("remover", "upscaler", "parser")
"""Those that take part where they are asked for."""


@dataclass(frozen=True)
class Models:
    """The models of a run.

    face_size: side of the aligned faces in pixels, as the prior wants them, or another remover. max_timestep: the prior
    was trained below it. remover: what removes degradation where DR2 does not; then there is no prior and no policy.
    stored: SHA-256 by name of those that are of a store.
    """

    detector: Model
    prior: Model
    niqe: Model
    policy: Model
    enhancer: Model
    face_size: int
    max_timestep: int = TRAINED_STEPS
    remover: Model | None = None
    upscaler: Model | None = None
    parser: Model | None = None
    stored: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Role to source, name, licence, sha256 and settings, of those that take part."""
        there: dict[str, Model | None] = {role: getattr(self, role) for role in (*ROLES, *OPTIONAL)}
        return {role: model.to_json() for role, model in there.items() if model is not None}


def describe(config: Config) -> Models:
    """Find and identify the models of ``config``. Raises ModelError, and StorageError for a store out of reach."""
    named = sources(config)
    for role, source in named.items():
        if "://" in source:  # not shown: it may be a signed one, and the source is recorded
            raise ModelError(
                f"{role}: models are not read from URLs; 'dr2e models add' it and give its name, or name a file"
            )
    stored = {
        role: _stored(config, role, named[role]) for role in loaded_roles(config) if is_stored_name(config, named[role])
    }
    remover, prior, size, max_timestep = identify.removal(config, stored.get("remover"), stored.get("prior"))
    niqe, enhancer = identify.judge(config), identify.enhancer(config, stored.get("enhancer"))
    if config.restore.tau is not None and config.restore.tau >= max_timestep:
        raise ModelError(
            f"restore.tau: {config.restore.tau} is more than prior {prior.name!r} was trained at ({max_timestep})"
        )
    _check_options(config)
    return Models(
        detector=identify.detector(config, stored.get("detector")),
        prior=prior,
        niqe=niqe,
        policy=identify.policy(config, prior, niqe, enhancer, max_timestep),
        enhancer=enhancer,
        face_size=size,
        max_timestep=max_timestep,
        remover=remover,
        upscaler=identify.upscaler(config, stored.get("upscaler")),
        parser=identify.parser(config, stored.get("parser")),
        stored={record.name: record.sha256 for record in stored.values()},
    )


def sources(config: Config) -> dict[str, str]:
    """The models as configured, by role."""
    return {
        "detector": config.detect.detector,
        "remover": config.restore.remover,
        "prior": config.restore.prior,
        "niqe": config.restore.niqe,
        "policy": config.restore.policy,
        "enhancer": config.enhance.enhancer,
        "upscaler": config.write.upscaler,
        "parser": config.write.parser,
    }


def local_model(config: Config, role: Role) -> Local:
    """The model of ``role`` on this machine, ready to be loaded: a worker's side. Raises ModelError, StorageError."""
    return local(config, role, sources(config)[role])


def enhancer_options(config: Config) -> Options:
    """How the enhancer is to work."""
    return Options(config.enhance.fidelity, config.enhance.precision)


def loaded_roles(config: Config) -> Iterator[Role]:
    """The roles a store may hold whose models a run of ``config`` loads."""
    yield "detector"
    yield "prior" if config.restore.remover == DR2 else "remover"
    yield "enhancer"
    if config.write.by_network:
        yield "upscaler"
    yield "parser"


def _stored(config: Config, role: Role, name: str) -> Record:
    """A model of the store, which is looked at, but not copied."""
    record = find(config, role, name)
    check_in_place(store_of(config), record)
    return record


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
