"""A commit and a copy on a disk that is too small, then large enough. Run by test_full.py where it may mount one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from operators.images import encode_png
from pipeline.commit import commit_unit
from pipeline.members import CommitContext
from pipeline.output import Output
from pipeline.records import Photo
from pipeline.storage import Location, StorageError


def main(disk: Path) -> None:
    """disk: a folder to mount a disk of memory on. Raises AssertionError for anything but what is promised."""
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    commit_twice(disk)
    copy_twice(disk)


def commit_twice(disk: Path) -> None:
    place = Location(disk / "out")
    complaint = refused(lambda: commit_unit(place, unit(), CONTEXT))
    assert "No space left on device; free some space and run again, finished units stay" in complaint, complaint
    left = [path.name for path in (disk / "out").rglob("*") if path.is_file()]
    assert not left, left  # what was half written would take the room that the next attempt needs
    mount("-o", "remount,size=64m", str(disk))
    assert commit_unit(place, unit(), CONTEXT).won
    findings = Output(place).verify()
    assert not findings, findings


def copy_twice(disk: Path) -> None:
    tempfile.tempdir = str(disk)  # where copies of remote shards go
    remote = Location("memory://remote")
    remote.put("shard.tar", bytes(70 << 20))

    def fetch() -> None:
        with remote.local("shard.tar"):
            pass

    complaint = refused(fetch)
    assert f"cannot copy memory://remote/shard.tar: no space left in {disk} of " in complaint, complaint
    assert "set TMPDIR" in complaint
    mount("-o", "remount,size=128m", str(disk))
    fetch()


def refused(call: object) -> str:
    try:
        call()  # type: ignore[operator]
    except StorageError as error:
        return str(error)
    raise AssertionError("there was room")


def unit() -> list[Photo]:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    photo = Photo("s-12345678-0000-of-0001", 0, "a", "a.png", encode_png(noise), width=200, height=200)
    photo.status, photo.shard, photo.started = "no_face", "s.tar", "2026-01-01T00:00:00+00:00"
    return [photo]


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


CONTEXT = CommitContext(seed=7, models={}, versions={})

if __name__ == "__main__":
    main(Path(sys.argv[1]))
