"""A stored model as local files: a store on a disk is read in place, of a remote one each machine makes one copy."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError, files_named
from pipeline.store.keeping import ModelStore
from pipeline.store.record import Record, StoredFile


def local_folder(store: ModelStore, record: Record, copies: Path, *, anew: bool = False) -> Path:
    """A local folder that holds the model's files, each of them checked against the record.

    copies: folder for copies, which are found by SHA-256. anew: fetch even what is here. However many processes of a
    machine ask at once, one of them fetches. Raises ModelError for files that are missing or not what was stored,
    StorageError for trouble on the way.
    """
    if store.location.is_local:
        folder = Path(store.url) / record.folder
        with files_named(folder):
            for file in record.files:
                _check(folder / file.name, file, store, record)
        return folder
    folder = copies / record.sha256
    with alone(copies / f"{record.sha256}.lock"), files_named(folder):
        for file in record.files:
            if anew or not _is_whole(folder / file.name, file):
                _copy(store, record, file, folder / file.name)
    return folder


def check_in_place(store: ModelStore, record: Record) -> None:
    """Look whether a store holds what a record says: on a disk the bytes, elsewhere, where that would be to fetch them,
    the sizes. Raises ModelError, StorageError."""
    if store.location.is_local:
        local_folder(store, record, Path())
        return
    for file in record.files:
        entry = store.location.stat(f"{record.folder}/{file.name}")
        if entry is None or entry.size != file.size:
            found = "is missing" if entry is None else f"has {entry.size:,} bytes, not {file.size:,}"
            raise ModelError(f"{record.name}: {store.url}/{record.folder}/{file.name} {found}; {_remedy(record)}")


def _remedy(record: Record) -> str:
    return f"remove the model with 'dr2e models remove {record.name}' and store it again"


def _copy(store: ModelStore, record: Record, file: StoredFile, to: Path) -> None:
    """Fetch a file, whole or not at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    beside = to.with_name(f".{secrets.token_hex(8)}.part")
    try:
        store.location.fetch(f"{record.folder}/{file.name}", beside)
        _check(beside, file, store, record)
        os.replace(beside, to)
    finally:
        beside.unlink(missing_ok=True)


def _is_whole(path: Path, file: StoredFile) -> bool:
    return path.is_file() and sha256_of(path) == file.sha256


def _check(path: Path, file: StoredFile, store: ModelStore, record: Record) -> None:
    where = f"{store.url}/{record.folder}/{file.name}"
    if not path.is_file():
        raise ModelError(f"{record.name}: {where} is missing, which its record names; {_remedy(record)}")
    found = sha256_of(path)
    if found != file.sha256:
        raise ModelError(
            f"{record.name}: {where} has SHA-256 {found}, not {file.sha256} as when it was stored; {_remedy(record)}"
        )


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Inside, no other process of this machine is inside with the same file; it is freed also by a kill.

    Raises ModelError for a folder that cannot be written to.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        opened = lock.open("w")
    except OSError as error:
        reason = f"{lock.parent}: {error.strerror}; name another folder for copies with DR2E_MODELS_CACHE"
        raise ModelError(reason) from None
    with opened as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
