"""The format of our own weights: safetensors with a JSON description in the header.

safetensors holds tensors and strings only, so loading a file never runs code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_HEADER = "dr2e"


class WeightsError(ValueError):
    """A weights file is missing, broken, or of another kind than asked for; the message names it and the remedy."""


def save_weights(path: Path, state: Mapping[str, Tensor], description: Mapping[str, Any], half: bool = True) -> None:
    """Write ``state`` and its ``description`` (JSON values) to ``path``.

    half: store float32 tensors as float16, halving the file; they load as float32 again.
    """
    tensors = {}
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        tensors[name] = value.to(torch.float16) if half and value.dtype == torch.float32 else value.clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".writing")
    beside.unlink(missing_ok=True)
    beside.touch()
    mode = beside.stat().st_mode  # as the user's umask has it; safetensors makes files that only their owner can read
    save_file(tensors, str(beside), metadata={_HEADER: json.dumps(description, sort_keys=True)})
    beside.chmod(mode & 0o777)
    beside.replace(path)


def load_weights(path: Path, kind: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by :func:`save_weights`; half precision comes back as float32.

    kind: the ``"kind"`` its description must name, for example ``"prior"``.
    Raises WeightsError when the file is missing, cut, not safetensors, not ours, or of another kind.
    """
    if not path.is_file():
        raise WeightsError(f"weights file not found: {path}")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"not a readable safetensors file: {path} ({error})") from error
    if _HEADER not in metadata:
        raise WeightsError(f"{path} carries no dr2e description; it was not written by 'dr2e train' or 'dr2e fit-niqe'")
    description = json.loads(metadata[_HEADER])
    if kind is not None and description.get("kind") != kind:
        raise WeightsError(f"{path} holds a {description.get('kind')!r} model, a {kind!r} model is needed here")
    return {
        name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()
    }, description


def is_ours(path: Path) -> bool:
    """Whether `path` is no published checkpoint but to be read by :func:`load_weights`, which says what is wrong with
    it: a safetensors file of ours, and one that is missing or broken."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return _HEADER in (file.metadata() or {})
    except (SafetensorError, OSError):
        return True


@contextmanager
def tensors_only() -> Iterator[None]:
    """Inside, torch.load takes tensors and runs no code of a pickle, whatever its caller asks for.

    For packages that load weights themselves: they may leave the choice to torch, which before 2.6 ran the code.
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes: the fingerprint recorded in manifests and commit records."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
