"""The kinds of events, once: docs/metrics.md and everything that is written of events are made of these."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Level = Literal["info", "warning", "error"]


class Event(BaseModel):
    """Something that happened. level: how bad it is, as a log says it. The docstring of a kind says when it is told,
    its fields what is told of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: ClassVar[Level] = "info"

    @field_validator("*", mode="before")
    @classmethod
    def _text_is_text(cls, value: Any) -> Any:
        """A path on a disk may hold bytes that no text does; telling of it must not fail for that."""
        return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

    @classmethod
    def name(cls) -> str:
        """What it is called where it is written: `UnitCommitted` is "unit_committed"."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def message(self) -> str:
        """One line for a person."""
        raise NotImplementedError


class RunBegan(Event):
    """An execution of a run begins: all that can be checked before has been."""

    work: str = Field(description="what it does: restoring, making pairs, retrying ...")
    output: str = Field(description="URL of the output")
    shards: int = Field(description="of the input; 0 for a retry, which has none")
    bytes: int = Field(description="of the input")
    new_shards: int = Field(description="of these, with something left to do")
    new_bytes: int = Field(description="left to do")
    gone: int = Field(description="shards that have results and are not in the input any more")
    changed: int = Field(description="shards that are not what their results came from: done anew, or left alone")
    version: str = Field(description="of dr2e")

    def message(self) -> str:
        return f"{self.work}, to {self.output}"


class RunEnded(Event):
    """It has ended, one way or another; one that was killed says nothing."""

    outcome: Literal["complete", "failed", "interrupted"] = Field(description="how")
    reason: str = Field(description="why it failed")
    photos: int = Field(description="committed in this execution")
    faces: int = Field(description="committed in this execution")
    rejected: int = Field(description="photos of these that were")
    seconds: float = Field(description="since it began")

    def message(self) -> str:
        told = f"{self.outcome} after {self.seconds:.0f} s: {self.photos} photos, {self.faces} faces"
        return f"{told}; {self.reason}" if self.reason else told


class RoundBegan(Event):
    """A pass over everything that is not committed begins."""

    number: int = Field(description="of the round, from 1")
    shards: int = Field(description="that have something left to do")
    bytes: int = Field(description="of input left to do")

    def message(self) -> str:
        return f"round {self.number} begins, {self.shards} shards"


class RoundBrokeOff(Event):
    """Ray gave up a graph; what it has committed stays."""

    level = "warning"

    number: int = Field(description="of the round")
    reason: str = Field(description="one line")

    def message(self) -> str:
        return f"round {self.number} broke off: {self.reason}"


class UnitsLost(Event):
    """A round left units undone that nobody came back with."""

    level = "warning"

    number: int = Field(description="of the round")
    shards: int = Field(description="that they are of, at most")
    reason: str = Field(description="of the latest loss, as far as it is known")

    def message(self) -> str:
        return f"round {self.number} lost units, of {self.shards} shards at most: {self.reason}"


class UnitsUnheard(Event):
    """Units are committed, and nobody had said so: their workers died right after, or another run did them."""

    units: int = Field(description="how many")

    def message(self) -> str:
        return f"{self.units} units were committed by workers that could not say so, or by another run"


class WorkerLost(Event):
    """Ray Data lost a block: its worker or machine died twice, or memory or a disk was full."""

    level = "warning"

    cause: Literal["room", "other"] = Field(description="room: the object store or a disk was full")
    reason: str = Field(description="one line")

    def message(self) -> str:
        return f"lost a block: {self.reason}"


class UnitCommitted(Event):
    """A unit is done, and this execution has just learned so."""

    unit: str = Field(description="its name")
    beaten: bool = Field(description="another attempt had committed it before: the counts are that one's")
    photos: int = Field(description="all of it")
    restored: int = Field(description="photos that were")
    no_face: int = Field(description="photos without one")
    rejected: int = Field(description="photos in quarantine")
    faces: int = Field(description="found and not left out")
    faces_restored: int = Field(description="of them, restored")
    faces_kept: int = Field(description="of them, good as they came")
    evaluations: int = Field(description="of the prior")
    share: float = Field(description="bytes of input: its part of its shard")
    written: int = Field(description="bytes of its objects")
    seconds: float = Field(description="from reading to commit")
    codes: dict[str, int] = Field(description="rejected photos by code")

    def message(self) -> str:
        return f"{self.unit}: {self.photos} photos, {self.faces} faces, {self.rejected} rejected"


class PhotoRejected(Event):
    """A photo of a unit that was just committed is in quarantine. Told of the first hundred of a unit."""

    unit: str = Field(description="name of its unit")
    key: str = Field(description="of the photo")
    code: str = Field(description="why")

    def message(self) -> str:
        return f"{self.key}: {self.code}"


class UnitFailed(Event):
    """A unit, or a whole shard, could not be finished this time."""

    level = "warning"

    unit: str = Field(description="its name; the shard's if that could not even be read")
    outside: bool = Field(description="storage or input failed, whatever the photos are like")
    refused: bool = Field(description="it was finished, and the output or a disk did not take it")
    reason: str = Field(description="one line")

    def message(self) -> str:
        return f"did not finish {self.unit}: {self.reason}"


class IsolationBegan(Event):
    """What rounds left undone is tried photo by photo from here on."""

    level = "warning"

    shards: int = Field(description="that have something left to do")

    def message(self) -> str:
        return f"photo by photo, {self.shards} shards"


class IsolationEnded(Event):
    """That is over, well or not."""

    units: int = Field(description="committed meanwhile")

    def message(self) -> str:
        return f"photo by photo is over, {self.units} units"


class PhotoLostWorker(Event):
    """A photo that was alone in a worker lost it, and is rejected unless the machine turns out to be at fault."""

    level = "warning"

    unit: str = Field(description="name of its unit")
    key: str = Field(description="of the photo")
    shard: str = Field(description="it is of")
    code: str = Field(description="worker.stuck, worker.died or worker.failed")
    reason: str = Field(description="one line")

    def message(self) -> str:
        return f"{self.shard} {self.key}: {self.reason}"


class StorageRetried(Event):
    """Storage was busy or away, and the driver tries the same again. Workers only count theirs."""

    verb: str = Field(description="what it did: read, write, list ...")
    object: str = Field(description="URL")
    pause: float = Field(description="seconds until it tries again")

    def message(self) -> str:
        return f"cannot {self.verb} {self.object} now; trying again"


class Progressed(Event):
    """How far it is, every ten seconds; in the log, not in the file of events."""

    phase: str = Field(description="what is happening")
    done: float = Field(description="share of the bytes that were left to do, 0 to 1")
    photos: int = Field(description="committed in this execution")
    faces: int = Field(description="committed in this execution")
    rejected: int = Field(description="photos of these that were")
    left: int = Field(description="bytes of input that are not committed")
    seconds: float = Field(description="since it began")
    seconds_left: float | None = Field(description="at this rate; null while nobody can tell")

    def message(self) -> str:
        return f"{self.phase} {self.done:.0%}, {self.photos} photos, {self.faces} faces"


EVENTS: tuple[type[Event], ...] = (
    RunBegan,
    RoundBegan,
    UnitCommitted,
    PhotoRejected,
    UnitFailed,
    RoundBrokeOff,
    WorkerLost,
    UnitsLost,
    UnitsUnheard,
    IsolationBegan,
    PhotoLostWorker,
    IsolationEnded,
    StorageRetried,
    Progressed,
    RunEnded,
)
"""All kinds, as a run meets them."""
