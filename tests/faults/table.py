"""The table of many storms, for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from faults.storm import Outcome

_HEAD = (
    "schedule",
    "kills (who, when)",
    "faults",
    "runs",
    "redone",
    "lost",
    "doubled",
    "bytes equal",
    "seconds",
)


def row(outcome: Outcome) -> tuple[str, ...]:
    """One schedule, a cell per column of the table."""
    verdict = outcome.verdict
    equal = "yes" if not verdict.wrong else "**no**"
    faults = ", ".join(f"{count} x {fault}" for fault, count in sorted(outcome.faults.items()))
    return (
        str(outcome.schedule.seed),
        "; ".join(outcome.kills) or "none",
        faults or "none",
        str(outcome.drivers),
        str(outcome.redone),
        str(len(verdict.lost)),
        str(len(verdict.doubled)),
        equal if outcome.passed else f"{equal}; {verdict}; {'; '.join(outcome.broken)}; exit {outcome.code}",
        f"{outcome.seconds:.0f}",
    )


def summary(outcomes: Sequence[Outcome]) -> str:
    """What all schedules come to, in one sentence."""
    passed = sum(outcome.passed for outcome in outcomes)
    kills = sum(len(outcome.kills) for outcome in outcomes)
    faults = sum(sum(outcome.faults.values()) for outcome in outcomes)
    lost = sum(len(outcome.verdict.lost) for outcome in outcomes)
    doubled = sum(len(outcome.verdict.doubled) for outcome in outcomes)
    redone = sum(outcome.redone for outcome in outcomes)
    collisions = sum(outcome.collisions for outcome in outcomes)
    missed = sum(len(outcome.missed) for outcome in outcomes)
    return (
        f"{passed} of {len(outcomes)} schedules passed: {kills} kills ({missed} more found nobody), {faults} faults "
        f"injected, {collisions} commits collided, {redone} units redone, {lost} photos lost, {doubled} doubled."
    )


def page(outcomes: Sequence[Outcome]) -> str:
    """The table as Markdown."""
    lines = [f"| {' | '.join(_HEAD)} |", f"|{' --- |' * len(_HEAD)}"]
    lines += [f"| {' | '.join(row(outcome))} |" for outcome in outcomes]
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    return "\n".join([summary(outcomes), "", f"Machine: {machine}.", "", *lines, ""])
