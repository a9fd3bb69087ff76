"""Downloads that go on where they were cut: bytes gather in a part file, and only a whole one is given away.

An address may be signed. It is used as it is, and shown and recorded without its query and without a user in it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from pipeline.room import explained, is_full
from pipeline.store.errors import ModelError, files_named
from pipeline.transient import PATIENCE, ShortTransfer, is_transient, pauses

CHUNK = 2**23
"""Bytes of one request."""

Show = Callable[[int, int | None], None]
"""Is told of bytes that are there, and of how many there will be, where the server says so."""

_NO_RANGES = "range requests"  # in the words of fsspec's HTTP file for a server that sends all or nothing
_SILENT_SECONDS, _CONNECT_SECONDS = 60.0, 30.0


@dataclass(frozen=True)
class _Found:
    """What a server says of a file: bytes, None where it does not; and what changes when the file does."""

    size: int | None
    version: str


def shown_url(url: str) -> str:
    """`url` without query, fragment, user and password."""
    protocol, separator, rest = url.partition("://")
    if not separator:
        return url
    place = rest.partition("?")[0].partition("#")[0]
    authority, slash, path = place.partition("/")
    return f"{protocol}://{authority.rpartition('@')[2]}{slash}{path}"


def download(
    url: str,
    folder: Path,
    *,
    size: int | None = None,
    checked: bool = False,
    show: Show = lambda *_: None,
    patience: float = PATIENCE,
) -> Path:
    """The file at `url` (http, https, hf), whole, in a part file of `folder` that is the caller's from then on.

    What an interrupted call left is gone on from, if the server says that it still has the same file, or the caller
    would notice another. checked: whether its SHA-256 is known and looked at. size: bytes that are expected. patience:
    seconds without a byte before it fails. Raises ModelError, one line that shows no secret, for what cannot be had and
    for another size.
    """
    part = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"  # another query may be another file
    with files_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    deadline, waits = time.monotonic() + patience, pauses()
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            with _network_hidden():
                return _attempt(url, part, size, checked, show)
        except _Final as error:
            raise ModelError(f"cannot download {shown_url(url)}: {error.reason}") from None
        except _Passing as error:
            there = part.stat().st_size if part.exists() else 0
            if there > before:
                deadline, waits = time.monotonic() + patience, pauses()
            pause = next(waits)
            if time.monotonic() + pause > deadline:
                goes_on = there and (checked or _noted(part)[1:] not in ([], [""]))
                kept = f"; the same command goes on from the {there:,} bytes that are here" if goes_on else ""
                raise ModelError(f"cannot download {shown_url(url)}: {error.reason}{kept}") from None
            time.sleep(pause)


class _Passing(Exception):
    """A failure that may pass. reason: without the address, which may be signed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Final(_Passing):
    """A failure that will not pass."""


def _attempt(url: str, part: Path, size: int | None, checked: bool, show: Show) -> Path:
    """One go at it, from what is there to the end."""
    protocol = url.partition("://")[0].lower()
    files, path = url_to_fs(url, **(_http_options() if protocol in {"http", "https"} else {}))
    info = files.info(path)
    found = _Found(info.get("size"), str(info.get("ETag") or info.get("Last-Modified") or info.get("blob_id") or ""))
    if size is not None and found.size is not None and found.size != size:
        raise _Final(f"it has {found.size:,} bytes there, and should have {size:,}")
    _begin_anew_if_changed(part, found, checked)
    done = part.stat().st_size
    if found.size is None or done != found.size:
        try:
            done = _append(files, path, part, found.size, CHUNK, show)
        except ValueError as error:
            if _NO_RANGES not in str(error):
                raise
            done = _append(files, path, part, found.size, 0, show)
    if found.size is not None and done != found.size:
        raise ShortTransfer(f"{done} of {found.size} bytes arrived")
    show(done, found.size)
    part.with_suffix(".json").unlink(missing_ok=True)
    return part


def _begin_anew_if_changed(part: Path, found: _Found, checked: bool) -> None:
    """Leave what is there of the same file, and an empty part of any other, or of one that none can tell from it."""
    note, now = part.with_suffix(".json"), [found.size, found.version]
    same = _noted(part) == now and found.size is not None and (checked or found.version != "")
    if not same or not part.exists() or part.stat().st_size > (found.size or 0):
        part.write_bytes(b"")
        note.write_text(json.dumps(now), encoding="utf-8")


def _noted(part: Path) -> list[Any]:
    """Size and version of the file that a part is of; [] where nothing is noted."""
    try:
        found = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _append(files: Any, path: str, part: Path, size: int | None, block: int, show: Show) -> int:
    """Bytes in the part after all that comes was added. block: 0 for a server that sends all or nothing."""
    with part.open("wb" if block == 0 else "ab") as out:
        done = out.tell()
        with files.open(path, "rb", block_size=block, cache_type="none") as source:
            if done:
                source.seek(done)
            while data := source.read(CHUNK):
                out.write(data)
                done += len(data)
                show(done, size)
    return done


def _http_options() -> dict[str, Any]:
    """No limit for the whole, which may take an hour; a silent server is given up."""
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


@contextmanager
def _network_hidden() -> Iterator[None]:
    """Turns whatever a client raises into a reason: its own words may repeat the address."""
    try:
        yield
    except _Passing:
        raise
    except Exception as raised:  # clients share no base class
        error = _behind(raised)
        if isinstance(error, OSError) and is_full(error):
            raise _Final(explained(error)) from None
        status = getattr(error, "status", None)
        if status == 404 or (status is None and isinstance(error, FileNotFoundError)):
            raise _Final("there is no such file; look at its publisher's page") from None
        reason = f"the server answers {status}" if status else _plainly(error)
        passes = status in {408, 429, 500, 502, 503, 504} if status else is_transient(error)
        raise (_Passing if passes else _Final)(reason) from None


def _behind(error: Exception) -> Exception:
    """What fsspec's HTTP met when it says that there is no file, whatever it met."""
    cause = error.__cause__
    return cause if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) else error


def _plainly(error: Exception) -> str:
    """The error's kind, and its words where they are ours or the system's."""
    if isinstance(error, ShortTransfer):
        return str(error)
    words = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{': ' if words and '://' not in words else ''}{words if '://' not in words else ''}"
