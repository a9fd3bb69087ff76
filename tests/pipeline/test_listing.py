"""What is listed, and that a folder which cannot be listed is never passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import S3

from faults.proxy import Fault, Proxy, Request
from jobs.images import names_images
from pipeline.config import build
from pipeline.inputs import resolve_inputs
from pipeline.listing import Info, below, matching
from pipeline.storage import Location, StorageError
from pipeline.verification import verify

TREE = ["a.tar", "x/0.tar", "x/1.txt", "x/deep/2.tar", "y/0.tar", "y[1]/3.tar", ".hidden/4.tar"]


def listed(folder: str) -> Iterator[Info]:
    """TREE as a file system would tell it, below "/t"."""
    names = {name.removeprefix("/t/") for name in [folder]} - {"/t"}
    prefix = f"{names.pop()}/" if names else ""
    here = {path.removeprefix(prefix).partition("/")[::2] for path in TREE if path.startswith(prefix)}
    folders = {first for first, rest in here if rest}
    for first in sorted({first for first, _ in here}):
        yield {"name": f"/t/{prefix}{first}", "type": "directory" if first in folders else "file"}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.tar", ["a.tar"]),
        ("*/*.tar", [".hidden/4.tar", "x/0.tar", "y/0.tar", "y[1]/3.tar"]),
        ("x/*", ["x/0.tar", "x/1.txt"]),
        ("[xy]/0.tar", ["x/0.tar", "y/0.tar"]),
        ("[!x]/*.tar", ["y/0.tar"]),
        ("y[[]1]/*.tar", ["y[1]/3.tar"]),
        ("x/**/*.tar", ["x/0.tar", "x/deep/2.tar"]),
        ("**/?.tar", sorted(name for name in TREE if name.endswith(".tar"))),
        ("x/nothing/*.tar", []),
    ],
)
def test_patterns_match_what_a_shell_would(pattern: str, found: list[str]) -> None:
    infos = matching(listed, "/t", pattern, lambda folder: below(listed, folder))
    assert sorted(info["name"].removeprefix("/t/") for info in infos) == found


def test_links_to_folders_are_followed_where_a_pattern_names_them(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "0.tar").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    place = Location(tmp_path / "in")
    assert [entry.name for entry in place.glob("*/0.tar")] == ["link/0.tar"]
    assert [entry.name for entry in place.glob("**/0.tar")] == []


@pytest.fixture
def shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An input and an output, each with a folder that the system refuses to list."""
    for name in ("in/a/0.tar", "in/b/0.tar", "out/commits/u.json", "out/run.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    scandir, closed = os.scandir, {str(tmp_path / "in/b"), str(tmp_path / "out/commits")}

    def refusing(path: Any = ".") -> Any:
        if os.fspath(path).rstrip("/") in closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # modes do not keep root out
    return tmp_path


@pytest.mark.parametrize("pattern", ["*/*.tar", "**/*.tar", "{a,b}/*.tar"])
def test_a_folder_that_cannot_be_listed_is_not_passed_over(pattern: str, shut: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot list .*in/b: Permission denied; check the permissions"):
        resolve_inputs(f"{shut}/in/{pattern}")


def test_records_that_cannot_be_listed_are_no_records_that_are_well(shut: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot list .*out/commits: Permission denied"):
        verify(Location(shut / "out"))


def test_a_prefix_that_a_server_does_not_list_is_asked_for_again_and_not_passed_over(s3: S3) -> None:
    folder = s3.folder()
    direct = Location(folder, s3.options)
    for name in ("x/0.tar", "y/0.tar"):
        direct.put(name, b"x")
    proxy = Proxy(int(s3.endpoint.rpartition(":")[2]))
    try:
        once = {"config_kwargs": {"retries": {"max_attempts": 0}}}  # it is our patience that is tried here
        place = Location(folder, {**s3.options, **once, "endpoint_url": proxy.endpoint}, patience=0.0)
        refusals = iter([True] * 1000)

        def busy(request: Request, phase: str) -> Fault | None:
            is_y = phase == "before" and "list-type" in request.query and "y%2F&" in f"{request.query}&"
            return Fault.SLOW_DOWN if is_y and next(refusals, False) else None

        proxy.watcher = busy
        with pytest.raises(StorageError, match=r"cannot list .*/y"):
            place.glob("*/*.tar")
        refusals, place.patience = iter([True] * 8), 60.0
        assert [entry.name for entry in place.glob("*/*.tar")] == ["x/0.tar", "y/0.tar"]
        assert not list(refusals)
    finally:
        proxy.close()


@pytest.mark.parametrize("pattern", ["a**.tar", "**.tar", "x/a**/0.tar"])
def test_stars_that_stand_for_nothing_are_refused_in_a_line(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"\*\* stands for folders and must be alone"):
        resolve_inputs(f"{tmp_path}/{pattern}")


def test_links_to_themselves_and_into_files_are_dead_links(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x")
    (tmp_path / "loop.tar").symlink_to(tmp_path / "loop.tar")
    (tmp_path / "into.tar").symlink_to(tmp_path / "a.tar" / "x")
    assert [entry.name for entry in Location(tmp_path).entries()] == ["a.tar", "into.tar", "loop.tar"]


def test_what_lies_beside_shards_need_not_be_listed(shut: Path) -> None:
    (shut / "in/0.tar").write_bytes(b"x")
    config = build({"input": f"{shut}/in", "output": f"{shut}/new"})
    assert not names_images(config)
    assert [shard.relative for shard in resolve_inputs(f"{shut}/in")] == ["0.tar"]
