"""Models into a store: the published ones by name, and anybody's by file or address; nothing of one that is wrong."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.storage import StorageOptions, local_copy
from pipeline.store.catalogue import Published, by_sha256, published
from pipeline.store.copies import alone
from pipeline.store.digest import sha256_of
from pipeline.store.download import Show, download, shown_url
from pipeline.store.errors import ModelError
from pipeline.store.keeping import ModelStore
from pipeline.store.recognise import DIFFUSERS, Recognised, recognise, try_load
from pipeline.store.record import Record, Role, StoredFile, is_file_name, is_model_name

PATIENCE = 120.0
"""Seconds a download waits for a byte."""


@dataclass(frozen=True)
class Told:
    """What a user says of a model that is added; None: what the file or the catalogue says."""

    name: str | None = None
    role: Role | None = None
    licence: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def pull(store: ModelStore, known: Published, copies: Path, show: Show, *, url: str | None = None) -> Record:
    """Download a published model into a store, unless it is there.

    copies: folder of this machine where what is not finished stays, to be gone on from. url: where else its only file
    is. However many pull at once, one downloads. Raises ModelError, StorageError.
    """
    if url is not None and len(known.files) != 1:
        raise ModelError(f"{known.name}: it has {len(known.files)} files, so one --url is not enough")
    if url is None and not known.can_be_pulled:
        raise ModelError(
            f"{known.name}: no program can download it; get {known.files[0].name} as {known.page} says ({known.note}), "
            f"then 'dr2e models add {known.files[0].name} --name {known.name}'"
        )
    with alone(copies / f"pull-{known.name}.lock"):
        if (there := store.find(known.name)) is not None:
            return there
        folder = copies / "downloads" / known.name
        folder.mkdir(parents=True, exist_ok=True)
        for file in known.files:
            if not _is_whole(folder / file.name, file.sha256):
                address = url or file.url or ""
                part = download(address, folder, size=file.size, show=show, patience=PATIENCE)
                _require_hash(known.name, part, file.sha256, shown_url(address))
                os.replace(part, folder / file.name)
        try:
            recognised = Recognised(known.role, known.architecture)
            if known.sha256 is None:
                _try(folder, known)
            source = shown_url(url or known.files[0].url or known.page)
            files = {file.name: folder / file.name for file in known.files}
            record = _record(files, known.name, recognised, known.licence, source, known.settings)
            return store.put(record, files)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def add(
    store: ModelStore, source: str, copies: Path, show: Show, told: Told, options: StorageOptions | None = None
) -> Record:
    """Store a model of the user's: a file, a folder in diffusers' layout, or an address.

    options: of the storage that the address is of. Raises ModelError for what nobody knows to load, StorageError.
    """
    with _fetched(source, copies, show, options) as (path, name):
        if path.is_dir():
            return _add_folder(store, path, told)
        sha256 = sha256_of(path)
        known = by_sha256(sha256) or (published(told.name) if told.name else None)
        if known is not None and known.sha256 not in (None, sha256):
            raise ModelError(
                f"{known.name}: {name} has SHA-256 {sha256}, not {known.sha256} as published; nothing was stored"
            )
        if known is not None and known.sha256 == sha256:
            found = Recognised(
                known.role, known.architecture, known.name, known.licence, known.settings, known.files[0].name
            )
        else:
            found = recognise(path)
            if known is not None:
                licence, settings = known.licence, {**found.settings, **known.settings}
                found = Recognised(found.role, found.architecture, known.name, licence, settings, known.files[0].name)
        settings = {**found.settings, **told.settings}
        file = found.file or _plain_file(name)
        with tempfile.TemporaryDirectory(prefix="dr2e-") as folder:
            os.symlink(path.absolute(), Path(folder) / file)  # as its loader looks for it
            try_load(Path(folder), file, found.role, settings)
        return _put(store, {file: path}, told, found, settings, _origin(source))


def _add_folder(store: ModelStore, folder: Path, told: Told) -> Record:
    """A prior in diffusers' layout: its files side by side."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".bin"})
    if DIFFUSERS not in names:
        raise ModelError(
            f"{folder} holds no {DIFFUSERS}; name a weights file, or the folder of a diffusers UNet2DModel"
        )
    try_load(folder, DIFFUSERS, "prior", told.settings)
    found = Recognised("prior", "diffusers UNet2DModel", _plain_name(folder.name))
    return _put(store, {name: folder / name for name in names}, told, found, told.settings, folder.name)


def _put(
    store: ModelStore,
    files: Mapping[str, Path],
    told: Told,
    found: Recognised,
    settings: Mapping[str, Any],
    source: str,
) -> Record:
    if told.role is not None and told.role != found.role:
        raise ModelError(f"--role: it is a model of kind '{found.role}' ({found.architecture}), not '{told.role}'")
    name = told.name or _plain_name(found.name or Path(next(iter(files))).stem)
    if not is_model_name(name):
        raise ModelError(f"--name: {name!r} is no name; use lower-case letters, digits, dots and dashes, 64 at most")
    licence = told.licence or found.licence or "see its publisher"
    return store.put(_record(files, name, found, licence, source, settings), files)


def _record(
    files: Mapping[str, Path], name: str, found: Recognised, licence: str, source: str, settings: Mapping[str, Any]
) -> Record:
    stored = tuple(StoredFile(file, path.stat().st_size, sha256_of(path)) for file, path in files.items())
    added = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(name, found.role, found.architecture, licence, stored, source, dict(settings), added)


@contextmanager
def _fetched(source: str, copies: Path, show: Show, options: StorageOptions | None) -> Iterator[tuple[Path, str]]:
    """The file at an address, or a file or folder of this machine, and what it is called."""
    protocol, separator, _ = source.partition("://")
    name = shown_url(source).rstrip("/").rpartition("/")[2]
    if not separator:
        path = Path(source).expanduser()
        if not path.exists():
            raise ModelError(f"{source} is missing; name a file, a folder, an address, or for 'pull' a published model")
        yield path, path.name
    elif protocol.lower() in {"http", "https", "hf"}:
        with alone(copies / "downloads.lock"):
            part = download(source, copies / "downloads", show=show, patience=PATIENCE)
            try:
                with _called(part, source) as path:
                    yield path, name
            finally:
                part.unlink(missing_ok=True)
    else:
        with local_copy(source, options) as copy, _called(copy, source) as path:
            yield path, name


@contextmanager
def _called(copy: Path, source: str) -> Iterator[Path]:
    """A copy under the name of what it is a copy of, for the name tells formats; and so do complaints about it."""
    with tempfile.TemporaryDirectory(prefix="dr2e-") as folder:
        path = Path(folder) / _plain_file(shown_url(source).rstrip("/").rpartition("/")[2])
        os.symlink(copy.absolute(), path)
        try:
            yield path
        except ModelError as error:
            raise ModelError(str(error).replace(str(path), shown_url(source))) from None


def _is_whole(path: Path, sha256: str | None) -> bool:
    return sha256 is not None and path.is_file() and sha256_of(path) == sha256


def _require_hash(name: str, part: Path, expected: str | None, where: str) -> None:
    """Removes what has another SHA-256 than `expected`, and raises ModelError."""
    if expected is None:
        return
    found = sha256_of(part)
    if found != expected:
        part.unlink()
        raise ModelError(
            f"{name}: what {where} gives has SHA-256 {found}, not {expected} as published; nothing was stored"
        )


def _try(folder: Path, known: Published) -> None:
    """Raises ModelError for downloaded files that are not what the catalogue says."""
    if known.files[0].name == DIFFUSERS:
        try_load(folder, DIFFUSERS, known.role, known.settings)
        return
    for file in known.files:
        found = recognise(folder / file.name)
        if found.role != known.role:
            raise ModelError(f"{known.name}: {file.name} is a model of kind '{found.role}', not '{known.role}'")
        try_load(folder, file.name, known.role, known.settings)


def _origin(source: str) -> str:
    """What a record says of where a model came from: an address, or a file's name without its folders."""
    return shown_url(source) if "://" in source else Path(source).name


def _plain_name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64] or "model"


def _plain_file(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("-.")[-200:]
    return plain if is_file_name(plain) else "weights.pth"
