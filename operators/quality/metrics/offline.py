"""Where pyiqa's metrics find their weights: in a folder of the user's, never on the network."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub.constants
import torch

_LIBRARIES = ("pyiqa", "torchvision", "torch.hub", "timm")
"""Packages whose functions fetch weights by these names:"""

_FILE, _STATE = "load_file_from_url", "load_state_dict_from_url"


class Taken:
    """What was asked for meanwhile. files: that were there; missing: names of those that were not; refused: whether
    the network was."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.missing: list[str] = []
        self.refused = False

    def file(self, url: str, *_: object, file_name: str | None = None, **__: object) -> str:
        """In place of a function that fetches `url` and says where it put it. Raises FileNotFoundError."""
        name = file_name or Path(urlparse(url).path).name
        path = None if self.folder is None else self.folder / name
        if path is None or not path.is_file():
            self.missing.append(name)
            raise FileNotFoundError(name)
        self.files.append(path)
        return str(path)

    def state(self, url: str, *_: object, map_location: Any = None, file_name: str | None = None, **__: object) -> Any:
        """In place of one that fetches a state dict."""
        return torch.load(self.file(url, file_name=file_name), map_location=map_location, weights_only=True)


@contextmanager
def from_folder(folder: Path | None) -> Iterator[Taken]:
    """Inside, what pyiqa and its libraries would fetch is taken from `folder` by its name, and this thread reaches no
    network: what they fetch another way fails. For one thread at a time."""
    taken = Taken(folder)
    with ExitStack() as stack:
        for module in [module for name, module in list(sys.modules.items()) if _is_of(name)]:
            for name, own in ((_FILE, taken.file), (_STATE, taken.state)):
                if callable(vars(module).get(name)):
                    _replace(stack, module, name, own)
        for owner, name in ((socket, "getaddrinfo"), (socket.socket, "connect")):
            _replace(stack, owner, name, _refusing(getattr(owner, name), taken))
        _replace(stack, huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # or it would try for a minute
        yield taken


def _replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Give `owner` another attribute until `stack` ends."""
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _is_of(module: str) -> bool:
    return any(module == library or module.startswith(f"{library}.") for library in _LIBRARIES)


def _refusing(function: Callable[..., Any], taken: Taken) -> Callable[..., Any]:
    """`function`, for all threads but this one."""
    thread = threading.get_ident()

    def guarded(*args: Any, **options: Any) -> Any:
        if threading.get_ident() == thread:
            taken.refused = True
            raise ConnectionError("metrics take their weights from files alone")
        return function(*args, **options)

    return guarded
