"""Models into a store: the published ones by name, and anybody's by file or address; nothing of one that is wrong."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.storage import StorageOptions, local_copy
from pipeline.store.catalogue import Published, by_file_name, by_part, by_sha256, published
from pipeline.store.copies import alone
from pipeline.store.digest import sha256_of
from pipeline.store.download import Show, download, shown_url
from pipeline.store.errors import ModelError, files_named
from pipeline.store.keeping import ModelStore
from pipeline.store.licences import NOT_STATED, is_noncommercial, strictest
from pipeline.store.recognise import DIFFUSERS, Recognised, diffusers_files, recognise, settings_of, try_load
from pipeline.store.record import WEIGHTS, Record, Role, StoredFile, is_model_name, settings_error

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
    with alone(copies / f"pull-{known.name}.lock"), files_named(copies):
        if (there := store.find(known.name)) is not None:
            return there
        downloads = copies / "downloads" / known.name
        folder = downloads / hashlib.sha256((url or "").encode()).hexdigest()[:16]  # another address, another file
        folder.mkdir(parents=True, exist_ok=True)
        for file in known.files:
            if not _is_whole(folder / file.name, file.sha256):
                address, checked = url or file.url or "", file.sha256 is not None
                part = download(address, folder, size=file.size, checked=checked, show=show, patience=PATIENCE)
                _require_hash(known.name, part, file.sha256, shown_url(address))
                os.replace(part, folder / file.name)
        source = shown_url(url or known.files[0].url or known.page)
        try:
            found = _downloaded(folder, known)
        except ModelError as error:
            shutil.rmtree(folder, ignore_errors=True)  # what came is not it, and must come again
            names = {str(folder / file.name): shown_url(url or file.url or file.name) for file in known.files}
            raise ModelError(_with_names(str(error), names)) from None
        files = {file.name: folder / file.name for file in known.files}
        record = store.put(_record(files, known.name, found, known.licence, source, found.settings), files)
        shutil.rmtree(downloads, ignore_errors=True)
        return record


def add(
    store: ModelStore, source: str, copies: Path, show: Show, told: Told, options: StorageOptions | None = None
) -> Record:
    """Store a model of the user's: a file, a folder in diffusers' layout, or an address.

    options: of the storage that the address is of. Raises ModelError for what nobody knows to load, StorageError.
    """
    with files_named(shown_url(source)), _fetched(source, copies, show, options) as (path, name):
        if path.is_dir():
            return _add_folder(store, path, told)
        sha256 = sha256_of(path)
        exact, called = by_sha256(sha256), published(told.name or "")
        _require_one_file(called or by_part(sha256), name)
        if exact is None and called is not None and called.sha256 is not None:
            raise ModelError(
                f"{called.name}: {name} has SHA-256 {sha256}, not {called.sha256} as published; nothing was stored"
            )
        known = exact or called
        if exact is not None:
            settings = settings_of(path, exact.architecture)
            found = Recognised(exact.role, exact.architecture, exact.name, settings=settings)
        else:
            found = recognise(path)
            same = by_file_name(name)
            if known is None and same is not None and _is_like(found, same):
                known = same
        licence = strictest((known.licence if known and _is_like(found, known) else "", found.licence))
        found = replace(found, licence=licence)
        if known is not None and _is_like(found, known):
            settings = {**found.settings, **known.settings}
            found = replace(found, name=known.name, settings=settings, file=known.files[0].name)
        found = replace(found, settings=_settings(found, told))
        file = found.file or path.name
        name = _name(told, found, path.stem)
        _require_published(name, sha256, found)
        try_load(path.parent, _beside(path, file), found.role, found.settings)
        return _put(store, {file: path}, told, found, name, _origin(source))


def _add_folder(store: ModelStore, folder: Path, told: Told) -> Record:
    """A prior in diffusers' layout: its files side by side."""
    found, files = diffusers_files(folder)
    found = replace(found, settings=_settings(found, told))
    called = folder.resolve().name
    name = _name(told, found, called)
    _require_published(name, None, found)
    known = published(name)
    if known is not None:
        _require_settings(known, found, folder)
        found = replace(found, licence=known.licence)
    try_load(folder, DIFFUSERS, "prior", found.settings)
    return _put(store, files, told, found, name, called)


def _name(told: Told, found: Recognised, else_called: str) -> str:
    """What a store is to call a model. Raises ModelError for what is no name."""
    name = told.name or _plain_name(found.name or else_called)
    if not is_model_name(name):
        raise ModelError(
            f"--name: {name!r} is no name; use lower-case letters, digits, dots and dashes, 64 at most, and no ending "
            "of a weights file"
        )
    return name


def _settings(found: Recognised, told: Told) -> dict[str, Any]:
    """What a model says of itself, and what the user tells of a prior whose file does not.

    Raises ModelError for what is told of another, or against what its file says.
    """
    if told.settings and found.role != "prior":
        raise ModelError(
            f"--size, --attention-order and --schedule are for priors; it is a model of kind '{found.role}' "
            f"({found.architecture})"
        )
    settings = {**found.settings, **told.settings}
    if found.architecture != "guided-diffusion":
        for name, value in told.settings.items():
            if name not in found.settings:
                raise ModelError(f"{name} is not told of a {found.architecture}, whose file says it; leave it out")
            if value != found.settings[name]:
                raise ModelError(f"{name} is {found.settings[name]}, as its file says, and not {value}; leave it out")
    if wrong := settings_error(settings):
        raise ModelError(wrong)
    return settings


def _is_like(found: Recognised, known: Published) -> bool:
    return (found.role, found.architecture) == (known.role, known.architecture)


def _require_one_file(known: Published | None, name: str) -> None:
    """Raises ModelError for one file of a model that is several."""
    if known is not None and len(known.files) > 1:
        parts = ", ".join(file.name for file in known.files)
        raise ModelError(
            f"{known.name} is {len(known.files)} files ({parts}), and {name} is one; get them with "
            f"'dr2e models pull {known.name}'"
            + (", or name the folder that holds them" if known.files[0].name == DIFFUSERS else "")
        )


def _require_published(name: str, sha256: str | None, found: Recognised) -> None:
    """Raises ModelError for what would be stored under a published name, and is not what was published.

    sha256: of a single file.
    """
    known = published(name)
    if known is None:
        return
    if known.sha256 is not None and known.sha256 != sha256:
        has = f"has SHA-256 {sha256}" if sha256 else "is a folder"
        raise ModelError(
            f"{name}: what is to be stored {has}, and the published model {known.sha256}; choose another --name"
        )
    if not _is_like(found, known):
        raise ModelError(
            f"{name}: it is of kind '{found.role}' ({found.architecture}), and the published model of kind "
            f"'{known.role}' ({known.architecture}); choose another --name"
        )


def _require_settings(known: Published, found: Recognised, where: Path) -> None:
    """Raises ModelError for files that say other settings of themselves than a publisher did."""
    for name, value in known.settings.items():
        if (said := found.settings.get(name, value)) != value:
            raise ModelError(f"{known.name}: {where} says {name} {said}, and the published model has {value}")


def _put(store: ModelStore, files: Mapping[str, Path], told: Told, found: Recognised, name: str, source: str) -> Record:
    if told.role is not None and told.role != found.role:
        raise ModelError(f"--role: it is a model of kind '{found.role}' ({found.architecture}), not '{told.role}'")
    known = published(found.name)
    fixed = is_noncommercial(found.licence) or (known is not None and found.licence == known.licence != NOT_STATED)
    if told.licence and fixed and told.licence != found.licence:
        raise ModelError(
            f"--licence: that of this {found.architecture} is {found.licence}, and not {told.licence}; leave it out"
        )
    licence = told.licence or found.licence or "see its publisher"
    return store.put(_record(files, name, found, licence, source, found.settings), files)


def _record(
    files: Mapping[str, Path], name: str, found: Recognised, licence: str, source: str, settings: Mapping[str, Any]
) -> Record:
    stored = tuple(StoredFile(file, path.stat().st_size, sha256_of(path)) for file, path in files.items())
    added = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(name, found.role, found.architecture, licence, stored, source, dict(settings), added)


@contextmanager
def _fetched(source: str, copies: Path, show: Show, options: StorageOptions | None) -> Iterator[tuple[Path, str]]:
    """The file at an address, or a file or folder of this machine, and what it is called. Errors about it name it as
    the user does."""
    protocol, separator, _ = source.partition("://")
    name = shown_url(source).rstrip("/").rpartition("/")[2]
    if not separator:
        path = Path(source).expanduser()
        if not path.exists():
            raise ModelError(f"{source} is missing; name a file, a folder, an address, or for 'pull' a published model")
        if path.is_dir():
            yield path, path.resolve().name
            return
        with _called(path, path.name, source) as link:
            yield link, path.name
    elif protocol.lower() in {"http", "https", "hf"}:
        with alone(copies / "downloads.lock"):
            part = download(source, copies / "downloads", show=show, patience=PATIENCE)
            try:
                with _called(part, name, shown_url(source)) as path:
                    yield path, name
            finally:
                part.unlink(missing_ok=True)
    else:
        with local_copy(source, options) as copy, _called(copy, name, shown_url(source)) as path:
            yield path, name


@contextmanager
def _called(file: Path, name: str, where: str) -> Iterator[Path]:
    """A link to a file, alone in a folder, under the plain name of it that is stored; complaints say `where`."""
    with tempfile.TemporaryDirectory(prefix="dr2e-") as folder:
        path = Path(folder) / _plain_file(name, file)
        os.symlink(file.absolute(), path)
        try:
            yield path
        except ModelError as error:
            raise ModelError(_with_names(str(error), dict.fromkeys(map(str, Path(folder).iterdir()), where))) from None
        except OSError as error:
            if error.filename is not None and str(error.filename).startswith(folder):
                error.filename = where
            raise


def _beside(path: Path, name: str) -> str:
    """A second link to what `path` links to, in the same folder, as a loader looks for it."""
    if name != path.name:
        os.symlink(path.readlink(), path.with_name(name))
    return name


def _with_names(text: str, names: Mapping[str, str]) -> str:
    """`text` with the names of files that the user knows."""
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(path, names[path])
    return text


def _is_whole(path: Path, sha256: str | None) -> bool:
    """Whether a file came whole before: only such files are called as they are published."""
    return path.is_file() and (sha256 is None or sha256_of(path) == sha256)


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


def _downloaded(folder: Path, known: Published) -> Recognised:
    """What a downloaded model is, with its settings. Raises ModelError for files that are not what the catalogue says;
    those with the SHA-256 that was published are."""
    if known.files[0].name == DIFFUSERS:
        found, _ = diffusers_files(folder)
        _require_settings(known, found, folder / DIFFUSERS)
    elif known.sha256 is not None:
        file = folder / known.files[0].name
        found = Recognised(known.role, known.architecture, settings=settings_of(file, known.architecture))
    else:
        found = recognise(folder / known.files[0].name)
    if not _is_like(found, known):
        raise ModelError(
            f"{known.name}: {folder / known.files[0].name} is of kind '{found.role}' ({found.architecture}), and not "
            f"'{known.role}' ({known.architecture}); nothing was stored"
        )
    found = replace(found, settings={**found.settings, **known.settings})
    if known.sha256 is None:
        try_load(folder, known.files[0].name, known.role, found.settings)
    return found


def _origin(source: str) -> str:
    """What a record says of where a model came from: an address, or a file's name without its folders."""
    return shown_url(source) if "://" in source else Path(source).name


def _plain_name(text: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    while (suffix := PurePosixPath(plain).suffix) in WEIGHTS:
        plain = plain.removesuffix(suffix)
    return plain.strip("-._")[:64].strip("-._") or "model"


def _plain_file(name: str, file: Path) -> str:
    """A name that loaders and stores take; what it ends in tells the format, by the bytes where it did not before."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("-.")[-180:].lstrip("-.") or "weights"
    suffix = PurePosixPath(plain).suffix
    if suffix.lower() in WEIGHTS:
        return plain.removesuffix(suffix) + suffix.lower()
    with file.open("rb") as opened:
        beginning = opened.read(9)
    return plain + (".safetensors" if beginning[8:] == b"{" else ".pth")
