"""The grid of (N, tau) that the paper's Figure 9 walks, as chains that cost no more than one per N."""

from __future__ import annotations

from operators.quality.selection import Chain

SCALES = (1, 2, 4, 8, 16)
"""N, the scales of the low-pass filter."""

LAST_TAU = 40
"""The largest tau, as a step of the schedule respaced to 100."""


def grid_chains(size: int, *, step: int = 1, stride: int = 1) -> list[Chain]:
    """Chains of a schedule of 100 steps whose candidates are every N of SCALES with tau = 0, `step` .. LAST_TAU.

    size: side of the faces in pixels; scales that do not divide it are left out. step: from one tau to the next.
    stride: steps from one evaluation of the network to the next. Where the taus lie closer than that, several chains
    of one N share them out: together they cost what one chain through every step would. A run starts a chain for one
    pair nearer to its tau, and where stride and step do not divide each other it also takes other steps; what comes
    out differs little (`dr2e evaluate --select` measures the pairs that matter on chains of their own). At N = 1
    candidates do not depend on each other, and one chain holds them all.
    """
    chains = []
    for n in SCALES:
        if size % n:
            continue
        spacing = step if n == 1 else step * -(-stride // step)
        for first in range(0, spacing, step):
            taus = tuple(range(first, LAST_TAU + 1, spacing))
            margin = Chain.to(n, taus[-1]).omega - taus[-1]
            chains.append(Chain(n, taus[-1] + margin - margin % stride, taus))  # no short step on the way to a tau
    return chains
