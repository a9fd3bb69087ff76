"""File names and WebDataset keys: how a file's name survives the way through shards and back.

A key ends at the first dot of the base name, so "x.y.jpg" and "x.z.jpg" would share the key "x" and become
one sample. The key of a packed file is therefore its name without the last extension, with dots and what a
tar or a path might misread percent-encoded: "scans/x.y.jpg" has the key "scans/x%2Ey". Files that differ
in the extension alone ("a.jpg", "a.png") keep it in the key: "a~jpg", "a~png".

The exact name travels beside the photo in KEY.source.json and is believed on the way back, once it has been
found harmless as a path.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

from pipeline.names import harmless

SOURCE = "source.json"
"""Extension of the member that holds a packed file's own name."""

_LONGEST, _LONGEST_PATH = 255, 900  # bytes: of a name on most disks; of a key on S3 is 1,024, with the prefix

_FORMAT = "dr2e.source/1"
# What has a meaning in a tar, a path or this encoding, and bytes that are no UTF-8 (as surrogates).
_ENCODED = re.compile(r"[\x00-\x1f\x7f%~:\\\ud800-\udfff]")


def keys_of(names: Iterable[str]) -> dict[str, str]:
    """File name -> key, different for different names. Names are relative and have an extension."""
    names = list(names)
    shared = Counter(plain_key(name) for name in names)
    return {name: plain_key(name) if shared[plain_key(name)] == 1 else _whole_key(name) for name in names}


def plain_key(name: str) -> str:
    """The key of a file that shares it with no other: the name without its last extension, encoded."""
    folder, slash, base = name.rpartition("/")
    stem = base.rpartition(".")[0]
    return _encode(folder) + slash + _encode(stem).replace(".", "%2E")


def source_member(name: str) -> bytes:
    """The content of KEY.source.json for the file `name`."""
    return json.dumps({"format": _FORMAT, "name": name}).encode()


def source_name(data: bytes) -> str | None:
    """The file name in a KEY.source.json; None when `data` is something else or the name no safe path."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("format") != _FORMAT or not isinstance(fields.get("name"), str):
        return None
    name: str = fields["name"]
    return name if is_safe(name) else None


def is_safe(name: str) -> bool:
    """Whether `name` is a file below whatever folder it is taken relative to, and can be written as one."""
    if name.rpartition("/")[2] in {"", "."} or harmless(name) != name:
        return False
    return len(name.encode()) <= _LONGEST_PATH and all(len(part.encode()) <= _LONGEST for part in name.split("/"))


def _whole_key(name: str) -> str:
    return f"{plain_key(name)}~{_encode(name.rpartition('.')[2])}"


def _encode(text: str) -> str:
    return _ENCODED.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode("utf-8", "surrogateescape")), text)
