"""All exhibits, and the folder of shards they make."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipeline.tar import write_shard
from tests.faults.zoo.archives import archives
from tests.faults.zoo.exhibit import PHOTOS, Exhibit
from tests.faults.zoo.refused import refused
from tests.faults.zoo.samples import samples
from tests.faults.zoo.understood import understood


@cache
def exhibits() -> tuple[Exhibit, ...]:
    """Every exhibit, in the order of the documentation."""
    return (*understood(), *refused(), *archives(), *samples())


def write(folder: Path) -> None:
    """The shards of all exhibits, into `folder`."""
    write_shard(folder / PHOTOS, (member for exhibit in exhibits() for member in exhibit.members))
    for exhibit in exhibits():
        if exhibit.write is not None:
            exhibit.write(folder / exhibit.shard)
