"""Where the time of an output went, from its commit records alone, and what would make the next run faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.output import Status

MOST_TIMES = 100
"""Beyond so many times as many workers of the slowest stage, nobody cares which stage comes next."""


@dataclass(frozen=True)
class StageCost:
    """A stage's seconds: of all its workers, per photo, per face (None without a face), and as a share of those of all
    stages."""

    stage: str
    seconds: float
    per_photo: float
    per_face: float | None
    share: float


@dataclass(frozen=True)
class Profile:
    """stages: the most seconds first. advice: one line."""

    photos: int
    faces: int
    stages: tuple[StageCost, ...]
    advice: str

    @property
    def dominating(self) -> str | None:
        """The stage that took most; None while nothing is known."""
        return self.stages[0].stage if self.stages else None


def profile(status: Status) -> Profile:
    """Seconds by stage of what is committed."""
    return profile_of(status.counts["photos"], status.counts["faces"], status.seconds)


def profile_of(photos: int, faces: int, seconds: Mapping[str, float]) -> Profile:
    """Seconds by stage that some photos with some faces took."""
    spent = sorted(((value, stage) for stage, value in seconds.items() if value > 0), reverse=True)
    total = sum(value for value, _ in spent)
    stages = tuple(
        StageCost(stage, value, value / max(photos, 1), value / faces if faces else None, value / total)
        for value, stage in spent
    )
    return Profile(photos, faces, stages, _advice(stages))


def _advice(stages: tuple[StageCost, ...]) -> str:
    if not stages:
        return "nothing is known yet: restore a few units first"
    first = stages[0]
    told = f"{first.stage} takes {first.share:.0%} of all work, {first.per_photo:.3g} s per photo"
    if len(stages) == 1 or (times := first.seconds / stages[1].seconds) > MOST_TIMES:
        return f"{told}: more workers of {first.stage} make a run faster"
    if times < 1.1:
        return f"{told}, and {stages[1].stage} nearly as much: a run is faster only with more workers of both"
    next_ = stages[1].stage
    return f"{told}: more workers of {first.stage} make a run faster, up to {times:.1f} times as many as {next_} has"
