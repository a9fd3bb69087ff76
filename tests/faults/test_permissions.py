"""Who may read what is written: as the user's umask has it, however the file came under its name; and what is left."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from faults.zoo.by_stages import by_stages, config
from faults.zoo.tars import TINY
from operators.training.weights import save_weights
from pipeline import last_words
from pipeline.packing import pack
from pipeline.report import write_report
from pipeline.storage import Location, StorageError
from pipeline.tar import write_shard
from pipeline.unpacking import unpack


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_everything_that_is_written_has_the_users_umask(
    mask: int, file: int, folder: int, tmp_path: Path, temporary: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(TINY)
    with umask(mask):
        place = tmp_path / "ours"
        pack(str(tmp_path / "photos"), Location(place / "in"))
        write_shard(place / "in" / "z.tar", [("b.png", TINY), ("../c.png", TINY)])
        output = by_stages(config(place / "in", place / "out"))
        output.start({})
        write_report(output)
        unpack(output, Location(place / "files"))
        save_weights(place / "model.safetensors", {"a": torch.zeros(1)}, {"kind": "prior"})
    written = sorted(place.rglob("*"))
    names = {path.relative_to(place).parts[1] for path in written if len(path.relative_to(place).parts) > 1}
    assert {"commits", "shards", "manifest", "rejects", "run.json", "report.html", "a.png"} <= names
    assert {path.name: oct(mode(path)) for path in written if mode(path) != (folder if path.is_dir() else file)} == {}
    assert list(temporary.iterdir()) == []


def test_temporary_folders_are_private_and_gone_after_a_failure(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "s.tar", [("a.png", TINY)])
    seen: list[int] = []

    def refuse(self: Location, name: str, body: object) -> None:
        seen.extend(mode(path) for path in temporary.iterdir())
        raise StorageError("no")

    monkeypatch.setattr(Location, "put", refuse)
    with umask(0), suppress(StorageError):
        by_stages(config(tmp_path / "in", tmp_path / "out"))
    assert seen and set(seen) == {0o700}
    assert list(temporary.iterdir()) == []
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_last_words_are_private_and_taken_away(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words.faulthandler, "enable", lambda *_, **__: None)
    monkeypatch.setattr(last_words.WATCHDOG, "file", None)
    with umask(0):
        path = Path(last_words.prepare())
    assert path.parent == temporary and mode(path) == 0o600
    os.close(last_words.WATCHDOG.file)
    last_words.take(str(path))
    assert list(temporary.iterdir()) == []


def test_unpacking_replaces_nothing_and_follows_no_link_that_has_a_photos_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "s.tar", [("a.png", TINY), ("b.png", TINY)])
    output = by_stages(config(tmp_path / "in", tmp_path / "out"))
    files, outside = tmp_path / "files", tmp_path / "outside.png"
    files.mkdir()
    (files / "a.png").symlink_to(outside)  # leads to nothing yet
    with pytest.raises((StorageError, ValueError)) as caught:
        unpack(output, Location(files))
    assert "a.png" in str(caught.value) and "\n" not in str(caught.value)
    assert not outside.exists()
    outside.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"a\.png is another file"):
        unpack(output, Location(files))
    assert outside.read_bytes() == b"mine" and (files / "a.png").is_symlink()
