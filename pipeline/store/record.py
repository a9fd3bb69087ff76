"""What a store knows of a model: its ``model.json``, which anybody may have written and is therefore checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from pipeline.store.digest import combined
from pipeline.store.errors import ModelError
from pipeline.store.licences import is_noncommercial

Role = Literal["prior", "enhancer", "remover", "detector", "parser", "upscaler", "metric"]

ROLES: tuple[Role, ...] = get_args(Role)

RECORD, LICENCE = "model.json", "licence.json"

WEIGHTS = frozenset({".safetensors", ".pt", ".pth", ".pkl", ".ckpt", ".bin"})
"""What the names of weight files end in."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = {"builtin", "none", "bicubic", "dr2"}  # what settings say that name no file
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

_RANGES = {"size": range(8, 4097), "max_timestep": range(1, 100_001)}
_WORDS = {
    "attention": ("legacy", "new"),
    "schedule": ("linear", "cosine"),
    "variance": ("fixed_small", "fixed_large"),
}


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
    settings: what a run must know before it reads the files: `size` in pixels of a prior's or a remover's faces, and of
    a prior `max_timestep`, how its `attention` is packed ("legacy", "new"), its `schedule` of noise ("linear",
    "cosine") and its `variance`; see `settings_error`.
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
    def folder(self) -> str:
        """Where in a store its files are: other bytes are elsewhere."""
        return f"{self.name}/{self.sha256[:16]}"

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
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ModelError(f"{where} is damaged; remove the model and store it again") from None
        names_are_plain = bool(files) and all(is_file_name(f.name) and _DIGEST.fullmatch(f.sha256) for f in files)
        if role not in ROLES or not is_model_name(texts["name"]) or not names_are_plain:
            raise ModelError(f"{where} is no record of a model; remove the model and store it again")
        if wrong := settings_error(settings):
            raise ModelError(f"{where}: {wrong}; remove the model and store it again")
        return cls(role=role, files=files, settings=settings, **texts)


def is_model_name(text: str) -> bool:
    """Whether a model may be called so: lower-case letters, digits, dots, dashes and underscores, and no
    ending of a weights file, for that would be a path."""
    plain = _NAME.fullmatch(text) is not None and text not in _RESERVED
    return plain and PurePosixPath(text).suffix not in WEIGHTS


def is_file_name(text: str) -> bool:
    """Whether a file of a model may be called so: plain characters, no folder, and none of the store's own."""
    return _FILE.fullmatch(text) is not None and text not in (RECORD, LICENCE)


def settings_error(settings: Mapping[str, Any]) -> str:
    """What is wrong with a record's settings; "" when all is well."""
    for name, value in settings.items():
        if name in _RANGES:
            allowed = _RANGES[name]
            if type(value) is not int or value not in allowed:
                return f"{name} is {value!r}, and no whole number from {allowed.start} to {allowed.stop - 1}"
        elif name not in _WORDS:
            return f"{name[:64]!r} is no setting of a model"
        elif value not in _WORDS[name]:
            return f"{name} is {value!r}; it takes {' or '.join(_WORDS[name])}"
    return ""
