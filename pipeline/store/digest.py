"""SHA-256 of files, and of models that are several."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK = 2**20


def sha256_of(path: Path) -> str:
    """Of a file's bytes, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def combined(files: Iterable[tuple[str, str]]) -> str:
    """Of a model, from (name, SHA-256) of its files: the one of its only file, or that of lines as sha256sum writes
    them, in order of the names."""
    files = sorted(files)
    if len(files) == 1:
        return files[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in files).encode()).hexdigest()
