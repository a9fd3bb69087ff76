"""What units cost, as measured: the seconds of each stage, unit by unit, from the commit records of an output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ConfigError
from pipeline.ledger import CommitRecord
from pipeline.output import Output
from pipeline.parallel import ordered
from pipeline.units import retry_number

MOST_RECORDS = 2000
"""Records that are read: more say no more, and a large output has hundreds of thousands."""

READ, COMMIT = "read", "write"
"""The names of reading and committing in a record's seconds."""

_READERS = 16  # requests in flight

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """Measured units; every array has one number per unit, (U,) float64.

    source: where they come from. seconds: by stage, READ and COMMIT among them. photos, faces: of a unit. bytes_in,
    bytes_out: its share of the shard, and its objects. parts: units of a shard on average.
    """

    source: str
    seconds: Mapping[str, Numbers]
    photos: Numbers
    faces: Numbers
    bytes_in: Numbers
    bytes_out: Numbers
    parts: float

    @classmethod
    def of(cls, records: Iterable[CommitRecord], source: str) -> Rates:
        """Those of some commit records, without later attempts at rejected photos. Raises ConfigError when there is
        none with a photo."""
        units = [record for record in records if not retry_number(record.unit) and record.counts["photos"]]
        if not units:
            raise ConfigError(
                f"{source}: no unit is committed to take rates from; restore a few units first, or name another output "
                "with --rates"
            )
        stages = sorted({stage for record in units for stage in record.seconds} | {READ, COMMIT})
        return cls(
            source,
            {stage: np.array([record.seconds.get(stage, 0.0) for record in units], float) for stage in stages},
            np.array([record.counts["photos"] for record in units], float),
            np.array([record.counts["faces"] for record in units], float),
            np.array([record.shard_bytes / record.parts for record in units], float),
            np.array([sum(stored.bytes for stored in record.objects) for record in units], float),
            # A shard of P units is there up to P times: each counts as a P-th of a shard.
            len(units) / sum(1 / record.parts for record in units),
        )

    @classmethod
    def measured(cls, output: Output) -> Rates:
        """Those of an output, from at most MOST_RECORDS records spread evenly over it. Raises ConfigError,
        StorageError, LedgerError."""
        units = sorted(unit for unit in output.committed() if not retry_number(unit))
        step = max(1, -(-len(units) // MOST_RECORDS))
        return cls.of(ordered(output.record, units[::step], _READERS), output.location.url)

    def require(self, stages: Sequence[str]) -> None:
        """Raises ConfigError unless each of `stages` was measured."""
        if missing := [stage for stage in stages if stage not in self.seconds]:
            raise ConfigError(
                f"{self.source}: its records have no seconds of {', '.join(missing)}; take the rates of an output that "
                "was made by the same command"
            )

    @property
    def units(self) -> int:
        return len(self.photos)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Places of `count` measured units, drawn with replacement: whole units, for a unit with many faces is slow in
        every stage."""
        return rng.integers(0, self.units, count)

    def error(self, stage: str) -> float:
        """How far the mean seconds of `stage` per photo may be off because so few units were measured: half of a 95 %
        confidence interval, as a share; infinite for one unit."""
        from scipy.stats import t as student  # which takes a second to load

        if self.units < 2:
            return float("inf")
        seconds, photos = self.seconds[stage], self.photos
        ratio = seconds.sum() / photos.sum()
        if not ratio:
            return 0.0
        spread = float((seconds - ratio * photos).std(ddof=1))
        return float(student.ppf(0.975, self.units - 1) * spread / np.sqrt(self.units) / photos.mean() / ratio)
