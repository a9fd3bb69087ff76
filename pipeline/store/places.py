"""Where models are kept: the store that is named, or else one in the user's cache folder; and copies of remote ones."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.storage import Location, StorageOptions
from pipeline.store.keeping import ModelStore
from pipeline.transient import PATIENCE

STORE, COPIES = "DR2E_MODELS", "DR2E_MODELS_CACHE"
"""The environment's names for both."""


def open_store(
    url: str | None = None, options: StorageOptions | None = None, *, patience: float = PATIENCE
) -> ModelStore:
    """The store at `url`, else where the environment says, else the user's own. Nothing is contacted yet.

    Raises StorageError for a URL with credentials in it.
    """
    return ModelStore(Location(url or os.environ.get(STORE) or _cache() / "models", options, patience=patience))


def copies_folder(named: str | None = None) -> Path:
    """The folder of this machine for copies of models from remote stores, and for downloads that are not finished."""
    return Path(named or os.environ.get(COPIES) or _cache() / "copies").expanduser()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dr2e"
