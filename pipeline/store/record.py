"""What a store knows of a model: its ``model.json``, which anybody may have written and is therefore checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from pipeline.store.digest import combined
from pipeline.store.errors import ModelError
from pipeline.store.licences import is_noncommercial

Role = Literal["prior", "enhancer", "remover", "detector", "parser", "upscaler", "metric"]

ROLES: tuple[Role, ...] = get_args(Role)

RECORD = "model.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = {"builtin", "none", "bicubic", "dr2"}  # what settings say that name no file
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredFile:
    """name: without folders. size: bytes. sha256: hex, as it was when the model was stored."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """A stored model.

    licence: SPDX identifier or name. source: where it came from, a URL without query and credentials, or a file's name.
    settings: what the files of a prior do not say: `size` in pixels and `max_timestep`, how its `attention` is packed
    ("legacy", "new"), its `schedule` of noise ("linear", "cosine").
    added: UTC, ISO 8601.
    """

    name: str
    role: Role
    architecture: str
    licence: str
    files: tuple[StoredFile, ...]
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    added: str = ""

    @property
    def sha256(self) -> str:
        """Of its only file, or of the list of them."""
        return combined((file.name, file.sha256) for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def noncommercial(self) -> bool:
        return is_noncommercial(self.licence)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the model's own size and SHA-256 for who reads them."""
        return {"format": 1, **asdict(self), "size": self.size, "sha256": self.sha256}

    def encoded(self) -> bytes:
        """As it is stored."""
        return json.dumps(self.to_json(), indent=1, sort_keys=True).encode()

    @classmethod
    def decoded(cls, text: bytes, where: str) -> Record:
        """Of what `encoded` gave. Raises ModelError naming `where` for anything else."""
        try:
            data = json.loads(text)
            files = tuple(StoredFile(str(f["name"]), int(f["size"]), str(f["sha256"])) for f in data["files"])
            settings = {str(key): value for key, value in data["settings"].items()}
            texts = {key: str(data[key]) for key in ("name", "architecture", "licence", "source", "added")}
            role = data["role"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ModelError(f"{where} is damaged; remove the model and store it again") from None
        names_are_plain = bool(files) and all(_FILE.fullmatch(f.name) and _DIGEST.fullmatch(f.sha256) for f in files)
        if role not in ROLES or not is_model_name(texts["name"]) or not names_are_plain:
            raise ModelError(f"{where} is no record of a model; remove the model and store it again")
        return cls(role=role, files=files, settings=settings, **texts)


def is_model_name(text: str) -> bool:
    """Whether a model may be called so: lower-case letters, digits, dots, dashes and underscores."""
    return _NAME.fullmatch(text) is not None and text not in _RESERVED


def is_file_name(text: str) -> bool:
    """Whether a file of a model may be called so: plain characters, and no folder."""
    return _FILE.fullmatch(text) is not None
