"""Every crash point of a commit, one after the other, in one process: deaths are simulated, storage is a real disk.

A commit is a handful of writes. An attempt can die before or after each of them, it can lose the acknowledgement of
each, and another attempt can do all of its own work before any of them. That is few enough to try everything.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from faults.checker import Objects, Verdict, check
from faults.history import Write, broken_rules
from faults.sabotage import SOURCE, Edit
from pipeline.inputs import ShardRef
from pipeline.members import CommitContext
from pipeline.records import Photo
from pipeline.shards import index_shard
from pipeline.storage import Location, StorageError
from pipeline.units import cut, read_unit

Commit = Callable[[Location, Sequence[Photo], CommitContext], Any]
CONTEXT = CommitContext(seed=0, models={}, versions={})


class Death(BaseException):
    """The process is gone: nothing catches this, nothing is cleaned up."""


@dataclass(frozen=True)
class Mishap:
    """What happens at the `nth` write of an attempt. rival: another attempt does everything just before it."""

    kind: Literal["death before", "death after", "lost acknowledgement", "failure", "rival"]
    nth: int


MISHAPS = [
    Mishap(kind, nth)
    for nth in range(1, 5)
    for kind in ("death before", "death after", "lost acknowledgement", "failure", "rival")  # type: ignore[misc]
]


class Disk(Location):
    """A folder that meets a mishap, and remembers what was done to it. After a death nothing is written any more."""

    def __init__(self, url: Path, history: list[Write], mishap: Mishap | None = None) -> None:
        super().__init__(url)
        self.history, self.mishap = history, mishap
        self.writes, self.dead = 0, False
        self.rival: Callable[[], None] = lambda: None

    def put(self, name: str, body: bytes | Path) -> None:
        self._write("put", name, lambda: super(Disk, self).put(name, body))

    def put_if_absent(self, name: str, body: bytes) -> bool:
        create = super().put_if_absent
        return bool(self._write("create", name, lambda: create(name, body)))

    def delete(self, name: str) -> None:
        self._write("delete", name, lambda: super(Disk, self).delete(name))

    def _write(self, verb: Literal["put", "create", "delete"], name: str, write: Callable[[], Any]) -> Any:
        if self.dead:
            raise Death
        self.writes += 1
        kind = self.mishap.kind if self.mishap and self.mishap.nth == self.writes else ""
        if kind == "rival":
            self.rival()
        if kind == "failure":
            raise StorageError(f"cannot write {name}: simulated")
        if kind == "death before":
            self.dead = True
            raise Death
        answer = write()
        self.history.append(Write(verb, name, answer is not False))
        if kind == "death after":
            self.dead = True
            raise Death
        if kind == "lost acknowledgement":
            # The client below asks again: a put is done twice, a creation finds its own object.
            answer = False if verb == "create" else write()
        return answer


def mutated(edit: Edit | None) -> Commit:
    """`commit_unit` as it is, or with an edit of `pipeline/commit.py`."""
    text = (SOURCE / "pipeline/commit.py").read_text(encoding="utf-8")
    if edit is not None:
        assert text.count(edit.old) == 1, f"the source has moved on: {edit.old!r}"
        text = text.replace(edit.old, edit.new)
    module = types.ModuleType("commit_under_test")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(text, "commit_under_test.py", "exec"), vars(module))
    commit: Commit = module.commit_unit
    return commit


def results(commit: Commit, shard: Path, folder: Path) -> Iterator[tuple[Mishap, Verdict, list[str]]]:
    """What every mishap leads to, after the run was started again: the checker's verdict, and the rules broken."""
    inputs = {shard.name: shard.read_bytes()}
    quiet = _quiet(commit, shard, folder / "quiet")
    for number, mishap in enumerate(MISHAPS):
        history: list[Write] = []
        place = folder / f"{number:03d}"
        for unit in _units(shard):
            _attempt(commit, place, history, unit, mishap)
        for _ in range(3):  # the same command again, until there is nothing left
            for unit in _units(shard):
                if not (place / "commits" / f"{unit[0].unit}.json").exists():
                    commit(Disk(place, history), unit, CONTEXT)
        yield mishap, check(_objects(place), inputs, quiet), broken_rules(history)


def _attempt(commit: Commit, place: Path, history: list[Write], unit: list[Photo], mishap: Mishap) -> None:
    disk = Disk(place, history, mishap)
    disk.rival = lambda: commit(Disk(place, history), unit, CONTEXT)
    try:
        commit(disk, unit, CONTEXT)
    except (Death, StorageError):
        return


def _quiet(commit: Commit, shard: Path, place: Path) -> Objects:
    for unit in _units(shard):
        commit(Disk(place, []), unit, CONTEXT)
    return _objects(place)


def _units(shard: Path) -> list[list[Photo]]:
    """The photos of the shard's units as stages would hand them over, none with a face, every third rejected."""
    ref = ShardRef(str(shard), shard.name, shard.stat().st_size, "tag")
    units = [read_unit(shard, unit) for unit in cut(ref, index_shard(shard), max_samples=3)]
    for photo in (photo for unit in units for photo in unit):
        if photo.index == 2:
            photo.reject("image.unreadable", "not a picture")
        else:
            photo.status = "no_face"
    return units


def _objects(place: Path) -> Objects:
    found = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in found}
