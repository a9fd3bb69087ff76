"""What a setting names: a model of the package, a file, a folder, a model of the hub, or one of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from operators.enhance.contract import Identity
from pipeline.config import Config
from pipeline.store.catalogue import (
    CATALOGUE,
    Published,
    by_sha256,
    licence_of_architecture,
    of_architecture,
    published,
)
from pipeline.store.copies import local_folder
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError
from pipeline.store.keeping import ModelStore
from pipeline.store.licences import is_noncommercial, refusal
from pipeline.store.places import copies_folder, open_store
from pipeline.store.record import WEIGHTS as WEIGHTS  # who asks what a setting names looks for it here
from pipeline.store.record import Record, Role, is_model_name

_INSTEAD: dict[Role, str] = {"remover": "'dr2'", "upscaler": "'bicubic'", "parser": "'none'"}
"""What of the package stands where no model is named, where that is not 'builtin'."""


@dataclass(frozen=True)
class Local:
    """A model as it is loaded. source: as its kind's loader takes it. identity: where the file does not tell it itself.
    settings: see `Record`."""

    source: str
    identity: Identity | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def store_of(config: Config) -> ModelStore:
    """The store of a run. Nothing is contacted yet."""
    return open_store(config.models.store, config.storage.models, patience=config.resources.patience_seconds)


def is_stored_name(config: Config, source: str) -> bool:
    """Whether `source` names a model of the store: nothing else that it could be is here."""
    if source in config.models.pin:
        return True
    return is_model_name(source) and Path(source).suffix.lower() not in WEIGHTS and not Path(source).exists()


def find(config: Config, role: Role, source: str) -> Record:
    """The record of a model that may be used as `role`.

    Raises ModelError for one that is not there, of another role, other than the run began with, or whose licence nobody
    has acknowledged; StorageError for a store that cannot be read.
    """
    store = store_of(config)
    record = store.find(source)
    if record is None:
        raise ModelError(f"{role}: {_missing(role, source, store)}")
    if record.role != role:
        raise ModelError(
            f"{role}: {source} of {store.url} is a model of kind '{record.role}'; name one of kind '{role}'"
        )
    if record.sha256 != config.models.pin.get(source, record.sha256):
        raise ModelError(f"{role}: {source} of {store.url} is not any more what the run began with; store that again")
    if _is_unacknowledged(config, store, record.licence, record.name):
        raise ModelError(refusal(record.name, record.licence))
    return record


def local(config: Config, role: Role, source: str) -> Local:
    """The model that `source` names, on this machine. Raises ModelError, StorageError; see `find`."""
    if is_stored_name(config, source):
        record = find(config, role, source)
        folder = local_folder(store_of(config), record, copies_folder(config.models.cache))
        identity = Identity(record.name, record.licence, record.sha256)
        return Local(str(source_in(folder, record)), identity, record.settings)
    path = Path(source)
    if path.suffix.lower() in WEIGHTS and path.is_file():
        sha256 = sha256_of(path)
        known = by_sha256(sha256)
        if known is not None:
            return Local(source, Identity(known.name, known.licence, sha256), known.settings)
    return Local(source)


def source_in(folder: Path, record: Record) -> Path:
    """What of a stored model's folder its loader takes: its only file, or the folder."""
    return folder / record.files[0].name if len(record.files) == 1 else folder


def known_file(config: Config, sha256: str) -> Published | None:
    """What the catalogue knows of a file with this SHA-256. Raises ModelError where its licence is not acknowledged."""
    known = by_sha256(sha256)
    if known is not None and _is_unacknowledged(config, store_of(config), known.licence, known.name):
        raise ModelError(refusal(known.name, known.licence, stored=False))
    return known


def require_licence_of(config: Config, architecture: str, name: str) -> None:
    """Raises ModelError for a file called `name`, with bytes that nobody knows, of an architecture that is published
    under licences alone that forbid commercial use, unless that was acknowledged, for `name` or a published one."""
    licence = licence_of_architecture(architecture)
    if licence is None:
        return
    known = [model.name for model in of_architecture(architecture)]
    if _is_unacknowledged(config, store_of(config), licence, name, *known):
        raise ModelError(refusal(name, licence, stored=False, to_accept=known[0]))


def require_licence(config: Config, name: str, licence: str) -> None:
    """Raises ModelError for a file called `name` that says of itself a licence which forbids commercial use, unless
    that was acknowledged."""
    if _is_unacknowledged(config, store_of(config), licence, name):
        raise ModelError(refusal(name, licence, stored=False))


def _is_unacknowledged(config: Config, store: ModelStore, licence: str, *names: str) -> bool:
    """Whether a licence forbids commercial use, and nobody has acknowledged that for a model of one of `names`."""
    if not is_noncommercial(licence) or any(name in config.models.accept for name in names):
        return False
    return not any(is_model_name(name) and store.accepted(name) for name in names)


def _missing(role: Role, name: str, store: ModelStore) -> str:
    """Why there is no such model, and what to do."""
    known = published(name)
    if known is None:
        names = ", ".join(model.name for model in CATALOGUE if model.role == role)
        instead = _INSTEAD.get(role, "'builtin'")
        return (
            f"{name!r} is no file and no folder here, and not in the store {store.url}; name "
            f"{instead}, a file, or one of 'dr2e models list'" + (f" (published are {names})" if names else "")
        )
    if known.can_be_pulled:
        return f"{name} is not in the store {store.url}; get it with 'dr2e models pull {name}'"
    return (
        f"{name} is not in the store {store.url}; download {known.files[0].name} as {known.page} says, and "
        f"'dr2e models add {known.files[0].name} --name {name}'"
    )
