"""A stored model read back: every byte of it, and whether it loads."""

from __future__ import annotations

from pathlib import Path

from pipeline.storage import StorageError
from pipeline.store.copies import local_folder
from pipeline.store.errors import ModelError
from pipeline.store.keeping import ModelStore
from pipeline.store.recognise import DIFFUSERS, try_load


def check(store: ModelStore, name: str, copies: Path) -> str:
    """What is wrong with a stored model and what to do, one line; "" when all is well.

    Of a remote store what counts is what is stored, so a copy that this machine has already does not.
    """
    try:
        record = store.find(name)
        if record is None:
            return f"it is not in the store {store.url}; see 'dr2e models list'"
        folder = local_folder(store, record, copies, anew=True)
        names = [file.name for file in record.files]
        try_load(folder, DIFFUSERS if DIFFUSERS in names else names[0], record.role, record.settings)
    except (ModelError, StorageError) as error:
        return str(error)
    return ""
