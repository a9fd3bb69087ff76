"""Places that hold objects: a local folder, an S3 bucket, anything fsspec reaches.

Two guarantees carry the rest of the product: an object appears whole or not at all (`put`), and of several
writers of one name exactly one wins (`put_if_absent`). Locally both rest on hard links and renames, on
object stores on single PUTs and If-None-Match.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.callbacks import Callback

from pipeline.events.kinds import StorageRetried
from pipeline.events.telling import current_run, tell
from pipeline.listing import Info, below, matching
from pipeline.metrics.counting import count
from pipeline.metrics.names import STORAGE_RETRIES
from pipeline.room import explained, is_full
from pipeline.secrecy import Unshown, complaint, shown
from pipeline.transient import PATIENCE, ShortTransfer, is_transient, pauses
from pipeline.watchdog import beat, pulse

log = logging.getLogger(__name__)

Result = TypeVar("Result")

StorageOptions = Mapping[str, Any]
"""Arguments of the fsspec filesystem, e.g. {"endpoint_url": ..., "key": ..., "secret": ...}."""

_FLAT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
"""Object stores, which list all below a prefix in one go; their file systems raise what goes wrong in it."""

_TEMPORARY = re.compile(r"(^|/)\.[^/]*\.tmp$")
_LEFTOVER = re.compile(r"\.(probe-[0-9a-f]{16}|[0-9a-f]{16}\.tmp)")


class StorageError(Exception):
    """Storage refused or failed: one line with the URL and the remedy, if there is one; no credentials."""


@dataclass(frozen=True, order=True)
class Entry:
    """A stored object: name relative to its location, bytes, and a fingerprint of the content.

    modified: when it was last written by the storage's clock, None where the storage does not tell. It says nothing
    about the content, so it does not count when entries are compared.
    """

    name: str
    size: int
    etag: str
    modified: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, order=True)
class Upload:
    """An unfinished multipart upload of an object store: the object's name, the store's id, bytes sent so far.

    started: by the storage's clock; None where the storage does not tell.
    """

    name: str
    id: str
    size: int
    started: datetime | None = field(default=None, compare=False)


class Location:
    """A folder or prefix, and the objects below it.

    url: a path, or protocol://...; a relative path is taken from the current directory, once and for all.
    options: arguments of the fsspec filesystem. What they lack comes from the environment
        (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION).
    patience: seconds an operation on a busy or unreachable server is tried again before it fails.

    Locations travel to other processes; each process opens its own connection when it first needs one.
    Names are relative, with forward slashes. Every failure is a StorageError, and so is a URL with credentials in it.
    """

    def __init__(self, url: str | Path, options: StorageOptions | None = None, *, patience: float = PATIENCE) -> None:
        text = str(url).removeprefix("file://")
        if refused := complaint(text):
            raise StorageError(refused)
        self.is_local = "://" not in text
        self.url = os.path.abspath(os.path.expanduser(text)) if self.is_local else text.rstrip("/")
        self.options = Unshown(options or {})
        self.patience = patience

    def __repr__(self) -> str:
        return f"Location({self.url!r})"

    __str__ = __repr__

    def __getstate__(self) -> dict[str, Any]:
        # Connections, their event loops and threads do not survive a change of process.
        return {name: value for name, value in vars(self).items() if name != "_fs"}

    def child(self, name: str) -> Location:
        """The location `name` below this one, reached the same way."""
        return Location(f"{self.url}/{name}", self.options, patience=self.patience)

    def entries(self, prefix: str = "") -> list[Entry]:
        """The objects below folder `prefix` at any depth, sorted by name; [] when there is no such folder."""
        return self._as_entries(self._below(self._bare(self._path(prefix))))

    def glob(self, pattern: str) -> list[Entry]:
        """The objects that match `pattern` (*, ?, [..], and ** for any depth), sorted by name."""
        self._path(pattern)  # refuses what would climb
        if any("**" in part and part != "**" for part in pattern.split("/")):
            raise StorageError(
                f"{self.url}/{pattern}: ** stands for folders and must be alone between slashes, as in **/*"
            )
        return self._as_entries(matching(self._list, self._bare(self.url), pattern, self._below))

    def stat(self, name: str) -> Entry | None:
        """Size and fingerprint of one object; None when there is none (or it is a folder)."""
        path = self._path(name)
        info = self._trying("look at", name, lambda: _or_none(self._fs.info, path))
        return _entry(name, info) if info is not None and _is_file(info) else None

    def exists(self, name: str) -> bool:
        return self.stat(name) is not None

    def holds(self, name: str) -> bool:
        """Whether `name` is there, as an object or as a folder."""
        path = self._path(name)
        return bool(self._trying("look at", name, lambda: self._fs.exists(path)))

    def read(self, name: str) -> bytes:
        """The bytes of an object; StorageError when there is none."""
        path = self._path(name)
        return self._trying("read", name, lambda: self._whole(path))

    def read_or_none(self, name: str) -> bytes | None:
        """The bytes of an object; None when there is none."""
        path = self._path(name)
        return self._trying("read", name, lambda: _or_none(self._whole, path))

    def _whole(self, path: str) -> bytes:
        # In one request: s3fs asks for the size first where it may read parts at a time.
        return bytes(self._fs.cat_file(path, **({"max_concurrency": 1} if self._is_s3 else {})))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes `start` up to `end` of an object that is that long; fewer if it became shorter."""
        if start >= end:
            return b""
        path = self._path(name)
        return bytes(self._trying("read", name, lambda: self._fs.cat_file(path, start=start, end=end)))

    def fetch(self, name: str, to: Path) -> None:
        """Copy an object into the local file `to`; StorageError unless all of it arrived."""
        self._trying("fetch", name, lambda: self._fetch(name, to))

    def _fetch(self, name: str, to: Path) -> None:
        entry = self.stat(name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "no such object")
        try:
            self._fs.get_file(self._path(name), str(to))
        except OSError as error:
            if is_full(error):  # the copy's disk, not the storage
                raise StorageError(f"cannot copy {self.url}/{name}: {explained(error)}") from None
            raise
        if to.stat().st_size != entry.size:
            raise ShortTransfer(f"{to.stat().st_size} of {entry.size} bytes arrived")

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A local file with the object's content: the file itself, or a copy that is removed afterwards."""
        if self.is_local:
            yield Path(self._path(name))
            return
        with tempfile.TemporaryDirectory(prefix="dr2e-") as folder:
            copy = Path(folder) / "object"
            self.fetch(name, copy)
            yield copy

    def put(self, name: str, body: bytes | Path) -> None:
        """Store bytes, or the content of a local file: whole or not at all, replacing what was there."""
        if self.is_local:
            with self._reporting("write", name), self._staged(name, body) as staged:
                os.replace(staged, self._path(name))
                _sync(Path(self._path(name)).parent)
        else:
            self._trying("write", name, lambda: self._upload(name, body))

    def _upload(self, name: str, body: bytes | Path) -> None:
        if isinstance(body, bytes):
            self._fs.pipe_file(self._path(name), body)
        else:
            self._fs.put_file(str(body), self._path(name), callback=_Pulse())
        expected = len(body) if isinstance(body, bytes) else body.stat().st_size
        stored = self._fs.info(self._path(name))["size"]
        if stored != expected:
            raise ShortTransfer(f"{stored} of {expected} bytes were stored")

    def put_if_absent(self, name: str, body: bytes) -> bool:
        """Create `name` unless it is there. True: this call created it; False: there is an object already.

        After a lost acknowledgement and another attempt, False can mean that our own body is there: a caller
        to whom that matters reads it back. Every other failure is a StorageError, its outcome unknown.
        """
        return self._trying("create", name, lambda: self._create(name, body))

    def _create(self, name: str, body: bytes) -> bool:
        try:
            if self.is_local:
                with self._staged(name, body) as staged:
                    os.link(staged, self._path(name))
                    _sync(Path(self._path(name)).parent)
            else:
                self._fs.pipe_file(self._path(name), body, mode="create")
        except OSError as error:
            if _is_refusal(error):
                return False
            raise
        return True

    def delete(self, name: str) -> None:
        """Remove an object; there being none is fine."""
        path = self._path(name)
        self._trying("delete", name, lambda: _or_none(self._fs.rm_file, path))

    def leftovers(self, folder: str = "") -> list[Entry]:
        """What a `put` or `probe` that was killed left in `folder` itself, sorted by name.

        Local folders keep the unfinished file of a `put`, which `entries` hides; any place may keep a probe.
        """
        found = self._list(self._bare(self._path(folder)))
        prefix = f"{folder}/" if folder else ""
        names = ((prefix + info["name"].rpartition("/")[2], info) for info in found if _is_file(info))
        return sorted(_entry(name, info) for name, info in names if is_leftover(name))

    def uploads(self) -> list[Upload]:
        """The unfinished multipart uploads of objects below this location, sorted; [] on anything but S3.

        Nobody sees their bytes, and everybody pays for them until somebody aborts them.
        """
        if not self._is_s3:
            return []
        bucket, prefix, _ = self._fs.split_path(self.url)
        prefix = f"{prefix}/" if prefix else ""
        found: list[Upload] = []
        place: dict[str, str] = {}
        with self._reporting("list the unfinished uploads of", ""):
            while True:
                page = self._fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **place)
                for upload in page.get("Uploads", []):
                    # Not every server heeds Prefix.
                    if upload["Key"].startswith(prefix):
                        size = self._uploaded(bucket, upload["Key"], upload["UploadId"])
                        name = upload["Key"].removeprefix(prefix)
                        found.append(Upload(name, upload["UploadId"], size, _moment(upload.get("Initiated"))))
                after = {
                    "KeyMarker": page.get("NextKeyMarker") or "",
                    "UploadIdMarker": page.get("NextUploadIdMarker") or "",
                }
                if not page.get("IsTruncated") or after == place:
                    return sorted(found)
                place = after

    def abort(self, upload: Upload) -> None:
        """Give up an unfinished upload and free its bytes; there being none any more is fine."""
        with self._reporting("abort the upload of", upload.name), suppress(FileNotFoundError):
            bucket, key, _ = self._fs.split_path(self._path(upload.name))
            self._fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.id)

    def _uploaded(self, bucket: str, key: str, upload: str) -> int:
        """Bytes in the parts of an unfinished upload; 0 when it has just ended."""
        size, marker = 0, 0
        with suppress(FileNotFoundError):
            while True:
                page = self._fs.call_s3("list_parts", Bucket=bucket, Key=key, UploadId=upload, PartNumberMarker=marker)
                size += sum(part["Size"] for part in page.get("Parts", []))
                after = page.get("NextPartNumberMarker") or marker
                if not page.get("IsTruncated") or after == marker:
                    break
                marker = after
        return size

    def probe(self) -> None:
        """Prove that this place can be written to and that put_if_absent refuses a second writer.

        Some S3 servers accept If-None-Match and ignore it; two workers could then both commit a unit.
        """
        name = f".probe-{secrets.token_hex(8)}"
        try:
            first, second = self.put_if_absent(name, b"first"), self.put_if_absent(name, b"second")
        finally:
            with suppress(StorageError):
                self.delete(name)
        if not first or second:
            raise StorageError(
                f"{self.url}: this server ignores If-None-Match, so two workers could "
                "commit one unit; use one that honours it (AWS S3, SeaweedFS, MinIO) or a local folder"
            )

    @cached_property
    def _fs(self) -> Any:
        if self.is_local:
            return fsspec.filesystem("file")
        protocol = self._protocol
        with self._reporting("open", ""):
            try:
                return fsspec.filesystem(protocol, **_with_environment(protocol, self.options))
            except ImportError as error:
                raise OSError(f"this protocol needs another package ({error})") from error
            except ValueError as error:
                raise OSError(f"fsspec knows no such protocol ({error})") from error

    @property
    def _protocol(self) -> str:
        return self.url.partition("://")[0]

    @property
    def _is_s3(self) -> bool:
        return self.url.startswith(("s3://", "s3a://"))

    def _path(self, name: str) -> str:
        # An absolute or climbing name would leave the location; object stores would take it literally.
        if name.startswith("/") or ".." in name.split("/"):
            raise StorageError(f"{name!r} is not a name below {self.url}")
        return f"{self.url}/{name}" if name else self.url

    def _bare(self, url: str) -> str:
        """A URL as the file system calls it in its answers: without the protocol."""
        return str(self._fs._strip_protocol(url))

    def _as_entries(self, found: Iterable[Info]) -> list[Entry]:
        root = self._bare(self.url).rstrip("/") + "/"
        resolved = ((info["name"], self._behind_link(info["name"], info)) for info in found)
        entries = (_entry(path.removeprefix(root), info) for path, info in resolved if _is_file(info))
        return sorted(entry for entry in entries if entry.name and not _TEMPORARY.search(entry.name))

    def _behind_link(self, path: str, info: Mapping[str, Any]) -> Mapping[str, Any]:
        """`info`, or that of the file a symbolic link leads to; a link to nothing is a file, to be missed when read."""
        if not info.get("islink"):
            return info
        try:
            return self._fs.info(path)
        except OSError:  # to nothing, to itself, or to where nobody may look
            return {**info, "type": "file"}

    @contextmanager
    def _staged(self, name: str, body: bytes | Path) -> Iterator[str]:
        """A finished, synced temporary file beside `name`; gone afterwards."""
        target = Path(self._path(name))
        _make_folder(target.parent)
        staged = target.parent / f".{secrets.token_hex(8)}.tmp"  # shorter than any name that only just fits
        try:
            with open(staged, "xb") as file:
                if isinstance(body, bytes):
                    file.write(body)
                else:
                    with open(body, "rb") as source:
                        while block := source.read(2**20):
                            file.write(block)
                            beat()
                file.flush()
                os.fsync(file.fileno())
            yield str(staged)
        finally:
            staged.unlink(missing_ok=True)

    def _list(self, folder: str) -> list[Info]:
        """What lies in a folder itself, given by its full name; [] when there is no such folder."""
        return list(self._trying("list", self._relative(folder), lambda: _or_none(self._fs_ls, folder)) or [])

    def _fs_ls(self, path: str) -> Any:
        return self._fs.ls(path, detail=True)

    def _below(self, folder: str) -> Iterable[Info]:
        """The objects below a folder, given by its full name, at any depth."""
        if self.is_local or self._protocol not in _FLAT:
            return below(self._list, folder)
        found = self._trying("list", self._relative(folder), lambda: _or_none(self._fs_find, folder)) or {}
        return list(found.values())

    def _fs_find(self, path: str) -> Any:
        return self._fs.find(path, detail=True, withdirs=False)

    def _relative(self, full: str) -> str:
        """A full name, as the file system gives it, as one below this location."""
        return full.removeprefix(self._bare(self.url)).lstrip("/")

    def _trying(self, verb: str, name: str, call: Callable[[], Result]) -> Result:
        """What `call` returns, tried again with growing pauses while the storage is only busy or away."""
        deadline = time.monotonic() + self.patience
        told = False
        for pause in pauses():
            with self._reporting(verb, name):
                try:
                    return call()
                except StorageError:
                    raise  # from an operation within this one, which was patient itself
                except Exception as error:
                    if self.is_local or not is_transient(error) or time.monotonic() + pause > deadline:
                        raise
            count(STORAGE_RETRIES, run=current_run())
            tell(StorageRetried(verb=verb, object=f"{self.url}/{name}", pause=round(pause, 1)))
            if pause > 2 and not told:
                told = True
                log.warning("cannot %s %s now; trying again", verb, f"{self.url}/{name}")
            beat()  # to wait for storage is not to hang
            time.sleep(pause)
        raise AssertionError("pauses never end")

    @contextmanager
    def _reporting(self, verb: str, name: str) -> Iterator[None]:
        """Turn whatever the client raises into one line that names the object and hides the credentials."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            where = f"{self.url}/{name}" if name else self.url
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            reason = shown(" ".join(text.split()), self.options)
            # Not chained: a client's own traceback may show its arguments.
            raise StorageError(f"cannot {verb} {where}: {reason}{_remedy(error, self.is_local)}") from None


class _Pulse(Callback):
    """Tells the watchdog of every part of an upload that has arrived: one that is slow does not hang."""

    def __init__(self) -> None:
        super().__init__()
        self._beat = pulse()  # of this thread; parts arrive in another

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self._beat()


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they are there also after a power failure."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Write the names in a folder through to the disk; a file's own sync leaves its name in memory."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder one may write to and not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(handle)


def open_location(url: str | Path, options: StorageOptions | None = None, *, patience: float = PATIENCE) -> Location:
    """The location at `url`; nothing is contacted yet."""
    return Location(url, options, patience=patience)


@contextmanager
def local_copy(url: str | Path, options: StorageOptions | None = None, *, patience: float = PATIENCE) -> Iterator[Path]:
    """A local file with the content of the object at `url`: the file itself, or a copy while it is needed."""
    location, name = _parent(url, options, patience)
    with location.local(name) as path:
        yield path


def look_at(url: str | Path, options: StorageOptions | None = None, *, patience: float = PATIENCE) -> Entry | None:
    """Size and fingerprint of the object at `url`; None when there is none."""
    location, name = _parent(url, options, patience)
    return location.stat(name)


def _parent(url: str | Path, options: StorageOptions | None, patience: float) -> tuple[Location, str]:
    folder, _, name = Location(url, options).url.rpartition("/")
    return Location(folder or "/", options, patience=patience), name


def _or_none(call: Callable[[str], Result], path: str) -> Result | None:
    """`call(path)`; None where there is nothing."""
    try:
        return call(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_leftover(name: str) -> bool:
    """Whether an object of this name is what a `put` or `probe` that was killed leaves."""
    return _LEFTOVER.fullmatch(name.rpartition("/")[2]) is not None


def _entry(name: str, info: Mapping[str, Any]) -> Entry:
    etag = str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "").strip('"')
    if not etag:
        changed = info.get("mtime") or info.get("created") or ""
        etag = f"{info['size']}-{changed}"
    modified = info.get("LastModified") or info.get("mtime") or info.get("created")
    return Entry(name, int(info["size"]), etag, _moment(modified))


def _moment(value: Any) -> datetime | None:
    """A time as file systems tell it (seconds since 1970, ISO 8601, or a datetime; without a zone: UTC), or None."""
    if isinstance(value, int | float):
        value = datetime.fromtimestamp(value, UTC)
    elif isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _is_file(info: Mapping[str, Any]) -> bool:
    return bool(info["type"] == "file")


def _is_refusal(error: OSError) -> bool:
    """Whether a conditional create failed because the name is taken; servers say so in different ways."""
    if isinstance(error, FileExistsError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    if response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412:
        return True
    return error.errno == errno.EINVAL and "pre-conditions" in str(error)


def _with_environment(protocol: str, options: StorageOptions) -> dict[str, Any]:
    """`options`, with what this product needs and botocore would not take from the environment."""
    # A cached listing would hide the commits of other workers. Not every file system takes what it does not know.
    completed: dict[str, Any] = {"use_listings_cache": False, **options} if protocol in _FLAT else dict(options)
    if protocol not in {"s3", "s3a"}:
        return completed
    region = os.environ.get("AWS_REGION")
    if region and "AWS_DEFAULT_REGION" not in os.environ:
        completed["client_kwargs"] = {"region_name": region, **completed.get("client_kwargs", {})}
    return completed


def _remedy(error: Exception, is_local: bool) -> str:
    if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError"}:
        return "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --storage-options"
    if type(error).__name__ in {"EndpointConnectionError", "ConnectTimeoutError"}:
        return "; check AWS_ENDPOINT_URL and the network"
    if not is_local and is_transient(error):
        return "; tried again for a while in vain: see the server's own log, it may be full or overloaded"
    if is_local and isinstance(error, OSError) and error.errno in {errno.EOPNOTSUPP, errno.EPERM}:
        return "; a commit needs a file system with hard links, or an object store"
    if isinstance(error, PermissionError):
        return "; check the permissions" if is_local else "; check the credentials and their permissions"
    if is_full(error):
        return "; free some space and run again, finished units stay"
    return ""
