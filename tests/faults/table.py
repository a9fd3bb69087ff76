"""The table of many storms, for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from faults.outcome import Outcome
from faults.schedule import VICTIMS

_HEAD = (
    "schedule",
    "kills (who, when)",
    "faults",
    "runs",
    "redone",
    "lost",
    "doubled",
    "bytes equal",
    "passed",
    "seconds",
)


def row(outcome: Outcome) -> tuple[str, ...]:
    """One schedule, a cell per column of the table."""
    verdict = outcome.verdict
    faults = ", ".join(f"{count} x {fault}" for fault, count in sorted(outcome.faults.items()))
    return (
        str(outcome.schedule.seed),
        "; ".join(map(str, outcome.hits)) or "none",
        faults or "none",
        str(outcome.drivers),
        str(outcome.redone),
        str(len(verdict.lost)),
        str(len(verdict.doubled)),
        "**no**" if verdict.unequal else "yes",
        "yes" if outcome.passed else f"**no**: {'; '.join(outcome.reasons)}",
        f"{outcome.seconds:.0f}",
    )


def mutant(outcome: Outcome) -> str:
    """What became of a wrong commit, in a line."""
    reasons = "; ".join(outcome.reasons) or "nothing was wrong"
    return f"{'caught' if outcome.caught else '**NOT CAUGHT**'}: {outcome.mutation}: {reasons}"


def never_hit(outcomes: Sequence[Outcome]) -> list[str]:
    """The kinds of victims that schedules wanted and not one got: whatever these say, it is not of them."""
    wanted = {strike.victim for outcome in outcomes for strike in outcome.schedule.strikes if not outcome.mutation}
    got = {strike.victim for outcome in outcomes for strike in outcome.hits if not outcome.mutation}
    return [victim for victim in VICTIMS if victim in wanted - got]


def summary(outcomes: Sequence[Outcome]) -> str:
    """What all schedules come to, in a few sentences."""
    storms = [outcome for outcome in outcomes if not outcome.mutation]
    mutants = [outcome for outcome in outcomes if outcome.mutation]
    passed = sum(outcome.passed for outcome in storms)
    kills = sum(len(outcome.hits) for outcome in storms)
    faults = sum(sum(outcome.faults.values()) for outcome in storms)
    lost = sum(len(outcome.verdict.lost) for outcome in storms)
    doubled = sum(len(outcome.verdict.doubled) for outcome in storms)
    redone = sum(outcome.redone for outcome in storms)
    collisions = sum(outcome.collisions for outcome in storms)
    missed = sum(len(outcome.missed) for outcome in storms)
    text = (
        f"{passed} of {len(storms)} schedules passed: {kills} kills ({missed} more found nobody), {faults} faults "
        f"injected, {collisions} commits collided, {redone} units redone, {lost} photos lost, {doubled} doubled."
    )
    if names := never_hit(storms):
        text += f" Never hit: {', '.join(names)}."
    if mutants:
        text += f" {sum(outcome.caught for outcome in mutants)} of {len(mutants)} wrong commits were caught."
    return text


def page(outcomes: Sequence[Outcome]) -> str:
    """The table as Markdown, by seed."""
    storms = sorted((o for o in outcomes if not o.mutation), key=lambda outcome: outcome.schedule.seed)
    mutants = [f"- {mutant(outcome)}" for outcome in outcomes if outcome.mutation]
    lines = [f"| {' | '.join(_HEAD)} |", f"|{' --- |' * len(_HEAD)}"]
    lines += [f"| {' | '.join(row(outcome))} |" for outcome in storms]
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    return "\n".join(
        [summary(outcomes), "", f"Machine: {machine}.", "", *lines, "", *mutants, *([""] if mutants else [])]
    )
