from __future__ import annotations

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import s3fs
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.storage import Location, StorageError, local_copy, open_location
from pipeline.transient import is_transient


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "s3":
        server = request.getfixturevalue("s3")
        return open_location(server.folder(), server.options)
    return open_location(tmp_path / "out" if request.param == "local" else f"memory:/{tmp_path}")


def test_an_empty_place_has_nothing_and_says_so(place: Location) -> None:
    assert place.entries() == []
    assert place.entries("commits") == []
    assert place.stat("a") is None
    assert place.read_or_none("a/b") is None
    assert not place.exists("a")
    place.delete("a")
    with pytest.raises(StorageError, match=r"cannot read .*/a"):
        place.read("a")


def test_put_replaces_and_reads_back(place: Location, tmp_path: Path) -> None:
    place.put("a/b", b"first")
    place.put("a/b", b"second")
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    place.put("a/c", tmp_path / "file")
    assert place.read("a/b") == b"second"
    assert [(entry.name, entry.size) for entry in place.entries("a")] == [("a/b", 6), ("a/c", 100_000)]
    with place.local("a/c") as path:
        assert path.read_bytes() == b"x" * 100_000
    place.delete("a/b")
    assert [entry.name for entry in place.entries()] == ["a/c"]


def test_a_listing_stays_in_its_folder(place: Location) -> None:
    for name in ("commits/a.json", "commits/deep/b.json", "commits2/c.json", "d"):
        place.put(name, b"1")
    assert [entry.name for entry in place.entries("commits")] == ["commits/a.json", "commits/deep/b.json"]
    assert [entry.name for entry in place.glob("commits/*.json")] == ["commits/a.json"]
    assert [entry.name for entry in place.glob("**/*.json")][-1] == "commits2/c.json"
    assert [entry.name for entry in place.child("commits").entries()] == ["a.json", "deep/b.json"]


def test_the_fingerprint_follows_the_content(place: Location) -> None:
    place.put("a", b"one")
    before = place.stat("a")
    place.put("a", b"two")
    after = place.stat("a")
    assert before is not None and after is not None
    assert before.size == after.size
    assert before.etag != after.etag


def test_only_the_first_put_if_absent_wins(place: Location) -> None:
    assert place.put_if_absent("commits/u.json", b"first")
    assert not place.put_if_absent("commits/u.json", b"second")
    assert place.read("commits/u.json") == b"first"
    place.probe()
    assert [entry.name for entry in place.entries()] == ["commits/u.json"]


def test_of_many_writers_exactly_one_wins(place: Location) -> None:
    if place.url.startswith("memory"):
        pytest.skip("the memory filesystem is not safe for threads")
    bodies = [f"writer {number}".encode() * 1000 for number in range(8)]
    for attempt in range(3):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda body, name=f"c/{attempt}": place.put_if_absent(name, body), bodies))
        assert won.count(True) == 1
        assert place.read(f"c/{attempt}") == bodies[won.index(True)]


def test_a_location_travels_without_its_connection(place: Location) -> None:
    place.put("a", b"1")
    place.entries()
    copy: Location = pickle.loads(pickle.dumps(place))
    assert "_fs" in vars(place) and "_fs" not in vars(copy)
    assert copy.read("a") == b"1"


def test_names_may_not_leave_the_location(place: Location) -> None:
    for name in ("../x", "a/../../x", "/etc/passwd"):
        with pytest.raises(StorageError, match="not a name below"):
            place.put(name, b"1")


def test_a_fetch_that_falls_short_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_location("memory://short", patience=0)
    place.put("a", b"123456")
    monkeypatch.setattr(MemoryFileSystem, "get_file", lambda self, name, to: Path(to).write_bytes(b"123"))
    with pytest.raises(StorageError, match="3 of 6 bytes"):
        place.fetch("a", tmp_path / "copy")


def test_credentials_come_from_the_environment(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    place = open_location(s3.folder())
    place.put("a", b"1")
    assert place.read("a") == b"1"
    with local_copy(f"{place.url}/a") as path:
        assert path.read_bytes() == b"1"


def test_wrong_credentials_are_one_line_that_shows_none(s3: Any) -> None:
    place = open_location(s3.folder(), {**s3.options, "secret": "not-the-secret-at-all"})
    with pytest.raises(StorageError) as caught:
        place.put("a", b"1")
    shown = f"{caught.value} {place!r} {place}"
    assert "check the credentials" in shown and "\n" not in shown
    assert "not-the-secret" not in shown and s3.key not in shown
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_client_that_repeats_a_secret_is_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    def loud(self: object, path: str) -> bytes:
        raise OSError(f"{path} at https://user:word@host: refused for token hush-hush and password tell-nobody")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", loud)
    place = open_location("memory://x", {"token": "hush-hush", "client_kwargs": {"pw": "tell-nobody"}})
    vars(place)["_fs"] = MemoryFileSystem()
    with pytest.raises(StorageError) as caught:
        place.read("a")
    assert "hush" not in str(caught.value) and "nobody" not in str(caught.value)
    assert "word@" not in str(caught.value) and "memory://x/a" in str(caught.value)


@pytest.mark.parametrize(
    "refusal",
    [
        FileExistsError("there"),
        OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold"),
    ],
)
def test_every_way_of_refusing_is_understood(refusal: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, path: str, value: bytes, mode: str) -> None:
        raise refusal

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    assert open_location("memory://x").put_if_absent("a", b"1") is False


@pytest.mark.parametrize(
    "failure", [OSError(errno.EINVAL, "bad argument"), TimeoutError("slow"), PermissionError("no")]
)
def test_other_failures_are_no_refusals(failure: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, path: str, value: bytes, mode: str) -> None:
        raise failure

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(StorageError, match="cannot create memory://x/a"):
        open_location("memory://x", patience=0).put_if_absent("a", b"1")


def test_the_probe_catches_a_server_that_ignores_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    create = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda self, path, value, mode="": create(self, path, value))
    with pytest.raises(StorageError, match="ignores If-None-Match"):
        open_location("memory://careless").probe()


def test_a_file_system_without_hard_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StorageError, match="hard links"):
        open_location(tmp_path).probe()


def test_a_failed_local_put_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_location(tmp_path)
    place.put("a", b"before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="free some space"):
        place.put("a", b"after")
    assert os.listdir(tmp_path) == ["a"]
    assert place.read("a") == b"before"


def test_files_half_written_are_not_listed(tmp_path: Path) -> None:
    place = open_location(tmp_path)
    place.put("shards/a.tar", b"1")
    (tmp_path / "shards" / ".b.tar.12345678.tmp").write_bytes(b"half")
    assert [entry.name for entry in place.entries()] == ["shards/a.tar"]


def test_relative_paths_survive_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = open_location("out")
    monkeypatch.chdir("/")
    place.put("a", b"1")
    assert (tmp_path / "out" / "a").read_bytes() == b"1"


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Fails the first `failures` reads and creations; a creation is carried out all the same."""

    failures = 0
    cachable = False

    def _fail(self, error: Exception) -> None:
        if self.failures:
            self.failures -= 1
            raise error

    def cat_file(self, path: str, **_: Any) -> bytes:
        self._fail(ConnectionResetError("reset by peer"))
        return bytes(super().cat_file(path))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value, mode=mode)
        self._fail(OSError(errno.EBUSY, "Please reduce your request rate"))


def _flaky(failures: int, patience: float, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setattr("pipeline.transient.FIRST_PAUSE", 0.001)
    place = open_location("memory://flaky", patience=patience)
    vars(place)["_fs"] = Flaky()
    place.delete("a")
    place.put("a", b"1")
    vars(place)["_fs"].failures = failures
    return place


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _flaky(3, 5, monkeypatch).read("a") == b"1"
    with pytest.raises(StorageError, match="reset by peer"):
        _flaky(3, 0, monkeypatch).read("a")


def test_a_creation_whose_answer_was_lost_is_found_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    place = _flaky(0, 5, monkeypatch)
    vars(place)["_fs"].failures = 1
    assert place.put_if_absent("b", b"mine") is False
    assert place.read("b") == b"mine"


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EBUSY, "slow down"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (PermissionError("no"), False),
        (TimeoutError(), True),
        (ValueError("bad"), False),
    ],
)
def test_what_passes_by_itself_is_told_from_what_does_not(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes
    wrapped = OSError(errno.EIO, "wrapped")
    wrapped.__cause__ = error
    assert is_transient(wrapped) is passes


@pytest.mark.parametrize("url", ["nosuchthing://x/y", "s3://bucket/prefix"])
def test_an_unreachable_place_is_one_clear_line(url: str) -> None:
    options = {"endpoint_url": "http://127.0.0.1:9", "key": "some-key", "secret": "some-secret"}
    with pytest.raises(StorageError) as caught:
        open_location(url, options, patience=0).entries()
    assert url in str(caught.value) and "\n" not in str(caught.value)
    assert "some-" not in str(caught.value)


def test_a_power_failure_takes_no_name_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    place = open_location(tmp_path / "out")
    place.put_if_absent("commits/deep/a.json", b"1")
    *folders, file, last = synced
    assert folders == [str(tmp_path), str(tmp_path / "out"), str(tmp_path / "out/commits")]  # each holds a new name
    assert file.endswith(".tmp") and last == str(tmp_path / "out/commits/deep")
    synced.clear()
    place.put("commits/deep/b.json", b"1")
    assert len(synced) == 2 and synced[1] == str(tmp_path / "out/commits/deep")


def test_the_watchdog_hears_of_every_part_of_an_upload(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(120 * 2**20)  # several parts
    beats: list[None] = []
    monkeypatch.setattr("pipeline.storage.pulse", lambda: lambda: beats.append(None))
    open_location(s3.folder(), s3.options).put("large", large)
    assert len(beats) >= 3
