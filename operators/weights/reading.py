"""Weights that others published, read without ever running code: a state dict, or one line saying what the file is."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from operators.training.weights import WeightsError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pkl", ".bin")
"""Of files that hold weights, in any case of letters."""

_WRAPPERS = ("params_ema", "g_ema", "ema", "params", "state_dict", "model", "generator")
"""Under what names a checkpoint keeps its network, the one to prefer first: averaged weights before trained ones."""

_PARALLEL = "module."
"""What torch's DataParallel puts before every key."""

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)|[Uu]nsupported (?:global|class)")
"""In torch's words for a pickle that names a class or function, which it does not load."""

_BEGINNING = 512
"""Bytes that tell what a file is."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by the names its network gives them, on the CPU.

    path: safetensors, or what ``torch.save`` wrote, of which tensors alone are taken (``weights_only``).
    Raises WeightsError, one line that says what the file is and what to do: it is missing, empty, cut, a web page or a
    pointer instead of weights, holds Python objects, or no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"weights not found: {path}; check the path")
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    _refuse_what_is_none(path, beginning)
    if path.suffix == ".safetensors" or _is_safetensors(beginning):
        state: object = _read_safetensors(path)
    else:
        state = _read_torch(path, beginning)
    tensors = _network_of(state)
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name; name a checkpoint of a network")
    return tensors


def _refuse_what_is_none(path: Path, beginning: bytes) -> None:
    """Raises WeightsError for what is often found where weights should be."""
    text = beginning.lstrip().lower()
    if not beginning:
        raise WeightsError(f"{path} is empty; download it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"{path} is a web page and no weights: its address moved or asks for a login; get it anew")
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a pointer of Git LFS and no weights; run 'git lfs pull' where it comes from")
    if text.startswith((b"{", b"[")) and not _is_safetensors(beginning):
        raise WeightsError(f"{path} is text and no weights, perhaps a server's answer; download it anew")


def _is_safetensors(beginning: bytes) -> bool:
    return len(beginning) > 8 and beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < 1 << 27


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is cut or no safetensors file ({error}); download it again") from None


def _read_torch(path: Path, beginning: bytes) -> object:
    if beginning.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise WeightsError(f"{path} is cut: the end of its archive is missing; download it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error)
        if _GLOBAL.search(reason):
            raise WeightsError(
                f"{path} holds Python objects besides tensors ({_named(reason)}), which could run any code, "
                "so it is not loaded; where you trust the file, save its state dict alone, as safetensors"
            ) from None
        raise WeightsError(f"{path} is no checkpoint of PyTorch, or damaged; download it again") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        # what torch's readers raise for archives and pickles that are cut, or never were of PyTorch
        raise WeightsError(
            f"{path} is cut, or no checkpoint of PyTorch ({type(error).__name__}); download it again"
        ) from None


def _named(reason: str) -> str:
    """The class or function that torch's message names."""
    found = _GLOBAL.search(reason)
    return found[1] if found and found[1] else "a class or function"


def _network_of(state: object) -> dict[str, Tensor]:
    """The network's tensors, wherever the checkpoint keeps them."""
    if not isinstance(state, Mapping):
        return {}
    for wrapper in _WRAPPERS:
        inner = state.get(wrapper)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            state = inner
            break
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if tensors and all(key.startswith(_PARALLEL) for key in tensors):
        tensors = {key.removeprefix(_PARALLEL): value for key, value in tensors.items()}
    return tensors
