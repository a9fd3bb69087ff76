"""A fair sample of the units of an output."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """How many units to read back: `count` of them, or `percent` of all, rounded up. seed: which ones."""

    count: int | None = None
    percent: float | None = None
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Sample:
        """Read "40" or "5%". Raises ValueError with a line for a person."""
        number = text.strip().removesuffix("%")
        try:
            if number == text.strip():
                sample, possible = cls(count=int(number), seed=seed), int(number) >= 1
            else:
                sample, possible = cls(percent=float(number), seed=seed), 0 < float(number) <= 100
        except ValueError:
            raise ValueError(
                f"{text!r} is no sample; give a number of units such as 40, or a share such as 5%"
            ) from None
        if not possible:
            raise ValueError(f"{text!r} is no sample: at least one unit, and at most 100%")
        return sample

    def draw(self, units: Iterable[str]) -> set[str]:
        """Each unit is as likely as any other. The same seed and units give the same sample, in whatever order."""
        everything = sorted(units)
        share = math.ceil(len(everything) * (self.percent or 0) / 100)
        count = share if self.count is None else self.count
        return set(random.Random(self.seed).sample(everything, min(count, len(everything))))
