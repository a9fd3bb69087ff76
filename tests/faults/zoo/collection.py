"""All exhibits, and the folder of shards they make."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from faults.zoo.archives import archives
from faults.zoo.exhibit import PHOTOS, Exhibit
from faults.zoo.refused import refused
from faults.zoo.samples import samples
from faults.zoo.understood import understood
from pipeline.tar import write_shard


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
