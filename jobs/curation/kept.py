"""The first step of a round: restore a collection and keep its good faces."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.images import image_config, names_images
from jobs.restore import completing
from pipeline.config import Config, ConfigError
from pipeline.driver import execute, prepare
from pipeline.ledger import SHARDS
from pipeline.output import Output


@dataclass(frozen=True)
class Kept:
    """What a collection gave. faces: kept; photos: with any of them, of `of_photos`; left_out: the others by reason;
    shards: what holds the faces, as an input."""

    photos: int
    of_photos: int
    faces: int
    left_out: dict[str, int]
    shards: str


def keep(config: Config, address: str | None = None) -> Kept:
    """Restore what ``config`` names and keep the good faces, or go on with it. Raises what `jobs.restore.restore` does,
    and ConfigError when nothing is kept."""
    prepared = prepare(image_config(config) if names_images(config) else config)
    execute(prepared, address)
    with completing(prepared.plan.complete):
        return kept(prepared.run.output)


def kept(output: Output) -> Kept:
    """What an output of kept faces holds. Raises StorageError, LedgerError, and ConfigError when it holds none."""
    status = output.status()
    stored = (record.object(SHARDS) for record in output.records())
    names = sorted(one.name.removeprefix(f"{SHARDS}/").removesuffix(".tar") for one in stored if one is not None)
    counts = status.counts
    if not counts["faces"]:
        reasons = ", ".join(f"{count:,} {code}" for code, count in status.errors.items())
        raise ConfigError(
            f"no face of the collection is good enough to learn from ({reasons}); relax keep.* in a new --output"
        )
    # One input, so that their folder is listed once; by name, for it may also hold what an interrupted attempt left.
    listed = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
    shards = f"{output.location.url}/{SHARDS}/{listed}.tar"
    return Kept(counts["restored"], counts["photos"], counts["faces"], status.errors, shards)
