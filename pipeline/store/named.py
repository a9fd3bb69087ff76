"""What a setting names: a model of the package, a file, a folder, a model of the hub, or one of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from operators.enhance.contract import Identity
from pipeline.config import Config
from pipeline.store.catalogue import CATALOGUE, Published, by_sha256, published
from pipeline.store.copies import local_folder
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError
from pipeline.store.keeping import ModelStore
from pipeline.store.licences import is_noncommercial, refusal
from pipeline.store.places import copies_folder, open_store
from pipeline.store.record import Record, Role, is_model_name

WEIGHTS = frozenset({".safetensors", ".pt", ".pth", ".pkl", ".ckpt", ".bin"})
"""What the names of weight files end in."""


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
    _require_licence(config, store, record.name, record.licence)
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
    if known is not None:
        _require_licence(config, store_of(config), known.name, known.licence)
    return known


def _require_licence(config: Config, store: ModelStore, name: str, licence: str) -> None:
    if is_noncommercial(licence) and name not in config.models.accept and not store.accepted(name):
        raise ModelError(refusal(name, licence))


def _missing(role: Role, name: str, store: ModelStore) -> str:
    """Why there is no such model, and what to do."""
    known = published(name)
    if known is None:
        names = ", ".join(model.name for model in CATALOGUE if model.role == role)
        return (
            f"{name!r} is no file and no folder here, and not in the store {store.url}; name 'builtin', a file, or one "
            "of 'dr2e models list'" + (f" (published are {names})" if names else "")
        )
    if known.can_be_pulled:
        return f"{name} is not in the store {store.url}; get it with 'dr2e models pull {name}'"
    return (
        f"{name} is not in the store {store.url}; download {known.files[0].name} as {known.page} says, and "
        f"'dr2e models add {known.files[0].name}'"
    )
