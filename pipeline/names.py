"""Names of tar members: keys, and names that must not be believed.

A member name becomes part of our own output, and one day somebody's file path. Names that would climb out
of a folder, or that no text column can hold, are spelled harmlessly and their samples are quarantined.
"""

from __future__ import annotations

import re

from pipeline.tar import Problem

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"^[A-Za-z]:")


def split_key(name: str) -> tuple[str, str]:
    """(key, extension) as WebDataset has it: folder and base name up to its first dot, and all behind it.

    "a/b.restored.png" -> ("a/b", "restored.png"). Without a dot the extension is "".
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension


def is_noise(name: str) -> bool:
    """Whether this is what macOS leaves in archives, not data: AppleDouble files and .DS_Store."""
    base = name.rpartition("/")[2]
    return base.startswith("._") or base == ".DS_Store"


def name_problem(name: str) -> Problem | None:
    """Why a member of this name cannot be taken, or None."""
    shown = harmless(name)
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or ".." in parts or _DRIVE.match(name):
        return Problem("member.path", f"{shown!r} would lead out of a folder when extracted; rename it")
    if shown != name:
        return Problem("member.name", f"{shown!r} has bytes that are not UTF-8 or control characters; rename it")
    if not split_key(name)[0].rpartition("/")[2]:
        return Problem("member.name", f"{shown!r} has no key before its first dot; rename it")
    return None


def harmless(name: str) -> str:
    """`name` with everything dangerous percent-encoded: the same text again for every ordinary name."""
    text = _CONTROL.sub(_percent, name)
    text = re.sub(r"[\ud800-\udfff]", _percent, text)
    text = re.sub(r"(^|(?<=[/\\]))\.\.(?=$|[/\\])", "%2E%2E", text)
    text = re.sub(r"^[/\\]", _percent, text)
    return _DRIVE.sub(lambda match: match[0][0] + "%3A", text)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))
