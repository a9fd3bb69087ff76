"""The chains that are run for every face whose choice is measured."""

from __future__ import annotations

from operators.quality.grid import grid_chains
from operators.quality.selection import Chain
from operators.quality.selection_fit import PAIRS, PROBE
from operators.restoration import STEP
from pipeline.evaluation.choice.rules import BY_HAND


def own_chains(size: int) -> list[Chain]:
    """A chain each, as a run starts it, for the pairs a policy is fitted to, those set by hand, and the probe.

    size: side of the faces in pixels; pairs whose N does not divide it are left out.
    """
    by_hand = {(n, tau // STEP) for n, tau in BY_HAND.values()}
    pairs = sorted({*PAIRS, *by_hand})
    single = tuple(sorted({*PROBE, *(tau for n, tau in pairs if n == 1)}))
    return [Chain(1, max(single), single), *(Chain.to(n, tau) for n, tau in pairs if n != 1 and size % n == 0)]


def measured_chains(size: int, *, step: int, stride: int) -> list[Chain]:
    """A grid, as `grid_chains` makes it, and then `own_chains`, which know better where both hold a pair.

    However coarse the grid is, a policy can be fitted to what was measured.
    """
    return [*grid_chains(size, step=step, stride=stride), *own_chains(size)]
