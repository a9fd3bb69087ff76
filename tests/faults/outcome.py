"""What became of a run under a schedule, and whether that will do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from faults.checker import Verdict
from faults.drivers import FINISHED
from faults.schedule import Schedule, Strike


@dataclass
class Outcome:
    """What became of a schedule.

    hits: strikes that found a victim, in order. collisions: records that two attempts wanted to create at one time.
    faults: those of the proxy, by kind. drivers: how often the run was started; code: how the last ended. redone:
    attempts at units beyond one each. stored: objects and records at the end.
    rules: of the protocol that were broken on the way, whatever the end looks like. broken: whatever else went wrong,
    in a driver or in the harness. mutation: the wrong commit it ran with, "" for the right one.
    """

    schedule: Schedule
    mutation: str = ""
    hits: list[Strike] = field(default_factory=list)
    collisions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    drivers: int = 0
    code: int | None = None
    redone: int = 0
    stored: int = 0
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    rules: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    log: str = ""

    @property
    def missed(self) -> list[Strike]:
        """Strikes that found nobody, or whose moment never came."""
        return list((Counter(self.schedule.strikes) - Counter(self.hits)).elements())

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def reasons(self) -> list[str]:
        """Why it did not pass. A schedule that did not take place is no success either."""
        return [
            *([] if self.code in FINISHED else [f"exit {self.code}"]),
            *([] if self.verdict.kept else [str(self.verdict)]),
            *self.rules,
            *self.broken,
            *(f"missed: {strike}" for strike in self.missed if not strike.may_miss),
        ]

    @property
    def caught(self) -> bool:
        """Whether a wrong commit was told by what it did: it stored something, and that or the way to it was wrong.

        How it ended proves nothing: one that did not start was not put to the test, and one that stumbles over what it
        has lost may end in any way.
        """
        return self.stored > 0 and (bool(self.rules) or not self.verdict.kept)
