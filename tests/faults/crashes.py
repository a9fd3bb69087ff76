"""Every crash point of a commit, one after the other, in one process: deaths are simulated, storage is a real disk.

A commit is a handful of writes, and a few more where it removes its objects. An attempt can die before or after each of
them, each can fail with every outcome, it can lose the acknowledgement of each, and another attempt can do all of its
own work before any of them. That is few enough to try everything.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

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


Kind = Literal[
    "death before",
    "death after",
    "failure",  # an error, and nothing was written
    "carried out, then failure",  # an error, and it was written all the same
    "failure, carried out later",  # an error, and it is written when the attempt is over: a request on its way
    "lost acknowledgement",  # no error: the client below asks again
    "rival",  # another attempt does everything just before
]


@dataclass(frozen=True)
class Mishap:
    """What happens at the `nth` write of an attempt."""

    kind: Kind
    nth: int


Mishaps = tuple[Mishap, ...]
"""All that befalls one attempt."""

WRITES = 4
"""Of a commit that goes well, in the units below: three objects and the record."""

_ALONE: list[Mishaps] = [(Mishap(kind, nth),) for nth in range(1, WRITES + 1) for kind in get_args(Kind)]

# A put that fails and a rival that was first make the attempt remove its three objects; these writes can go wrong too.
_REMOVING = [(Mishap("failure", nth), nth) for nth in range(1, WRITES)]
_REMOVING += [(Mishap("rival", nth), WRITES) for nth in (1, WRITES)]
_WHILE_REMOVING: list[Mishaps] = [
    (first, Mishap(kind, written + number))
    for first, written in _REMOVING
    for number in range(1, 4)
    for kind in get_args(Kind)
]

MISHAPS = _ALONE + _WHILE_REMOVING


@dataclass(frozen=True)
class Result:
    """What mishaps lead to, after the run was started again. met: whether all of them happened. broken: rules."""

    mishaps: Mishaps
    met: bool
    verdict: Verdict
    broken: list[str]

    @property
    def right(self) -> bool:
        return self.verdict.kept and not self.broken

    def __str__(self) -> str:
        happened = " and ".join(f"{mishap.kind} at write {mishap.nth}" for mishap in self.mishaps)
        return f"{happened}: {'; '.join([str(self.verdict), *self.broken])}"


class Disk(Location):
    """A folder that meets mishaps, and remembers what was done to it. After a death nothing is written any more."""

    def __init__(self, url: Path, history: list[Write], mishaps: Mishaps = ()) -> None:
        super().__init__(url)
        self.history = history
        self.ahead = {mishap.nth: mishap.kind for mishap in mishaps}  # what has yet to happen
        self.later: list[Callable[[], None]] = []  # writes on their way
        self.writes, self.dead = 0, False
        self.rival: Callable[[], None] = lambda: None

    def put(self, name: str, body: bytes | Path) -> None:
        data = body.read_bytes() if isinstance(body, Path) else body  # the file may be gone when it is written later
        self._write("put", name, lambda: super(Disk, self).put(name, data))

    def put_if_absent(self, name: str, body: bytes) -> bool:
        create = super().put_if_absent
        return bool(self._write("create", name, lambda: create(name, body)))

    def delete(self, name: str) -> None:
        self._write("delete", name, lambda: super(Disk, self).delete(name))

    def _write(self, verb: Literal["put", "create", "delete"], name: str, write: Callable[[], Any]) -> Any:
        if self.dead:
            raise Death

        def carry_out() -> Any:
            answer = write()
            self.history.append(Write(verb, name, answer is not False))
            return answer

        self.writes += 1
        kind = self.ahead.pop(self.writes, None)
        if kind == "rival":
            self.rival()
        if kind == "death before":
            self._die()
        if kind == "failure, carried out later":
            self.later.append(carry_out)
        if kind in ("failure", "failure, carried out later"):
            raise StorageError(f"cannot write {name}: simulated")
        answer = carry_out()
        if kind == "death after":
            self._die()
        if kind == "carried out, then failure":
            raise StorageError(f"cannot write {name}: simulated")
        if kind == "lost acknowledgement":
            # The client below asks again: a put is done twice, a creation finds its own object.
            answer = False if verb == "create" else write()
        return answer

    def _die(self) -> None:
        self.dead = True
        raise Death


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


def results(commit: Commit, shard: Path, folder: Path) -> Iterator[Result]:
    """What each of MISHAPS leads to."""
    inputs = {shard.name: shard.read_bytes()}
    quiet = _quiet(commit, shard, folder / "quiet")
    for number, mishaps in enumerate(MISHAPS):
        history: list[Write] = []
        place = folder / f"{number:03d}"
        met = [_attempt(commit, place, history, unit, mishaps) for unit in _units(shard)]
        for _ in range(3):  # the same command again, until there is nothing left
            for unit in _units(shard):
                if not (place / "commits" / f"{unit[0].unit}.json").exists():
                    commit(Disk(place, history), unit, CONTEXT)
        yield Result(mishaps, all(met), check(_objects(place), inputs, quiet), broken_rules(history))


def _attempt(commit: Commit, place: Path, history: list[Write], unit: list[Photo], mishaps: Mishaps) -> bool:
    """One attempt at a unit; whether all mishaps happened."""
    disk = Disk(place, history, mishaps)
    disk.rival = lambda: commit(Disk(place, history), unit, CONTEXT)
    with suppress(Death, StorageError):
        commit(disk, unit, CONTEXT)
    for write in disk.later:
        write()
    return not disk.ahead


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
