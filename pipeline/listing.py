"""Listing that leaves nothing out: a folder that cannot be listed raises; fsspec's own walk would go on without."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fsspec.utils import glob_translate

Info = Mapping[str, Any]
"""What fsspec says of an object or folder: its full "name", its "type" and more."""

List = Callable[[str], Iterable[Info]]
"""What lies in a folder itself, with full names; nothing when there is no such folder. What else goes wrong raises."""

_MAGIC = re.compile(r"[*?\[]")


def below(ls: List, folder: str) -> Iterator[Info]:
    """The objects below `folder` at any depth; links to folders are not followed, for they may lead back."""
    folders = [folder]
    while folders:
        here = folders.pop()
        for info in ls(here):
            if info["name"] == here:  # asked for a file, some file systems answer with the file
                continue
            if info["type"] == "directory":
                folders.append(info["name"])
            else:
                yield info


def matching(ls: List, folder: str, pattern: str, everything: List) -> Iterator[Info]:
    """The objects below `folder` whose relative names match `pattern` (*, ?, [..], and ** for any depth).

    everything: the objects below a folder at any depth, as `below` or faster.
    """
    first, _, rest = pattern.partition("/")
    if "**" in first:
        whole = re.compile(glob_translate(pattern))
        yield from (info for info in everything(folder) if whole.match(_relative(info, folder)))
    elif rest and not _MAGIC.search(first):
        yield from matching(ls, f"{folder.rstrip('/')}/{first}", rest, everything)
    else:
        name = re.compile(fnmatch.translate(first))
        for info in ls(folder):
            if info["name"] == folder or not name.match(_relative(info, folder)):
                continue
            if rest and (info["type"] == "directory" or info.get("islink")):
                yield from matching(ls, info["name"], rest, everything)
            elif not rest and info["type"] != "directory":
                yield info


def _relative(info: Info, folder: str) -> str:
    return str(info["name"]).removeprefix(folder.rstrip("/") + "/")
