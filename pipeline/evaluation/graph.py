"""The graph of an evaluation: a run's, between another beginning and another end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
from ray.data import DataContext

from pipeline.blocks import failed_block, to_block
from pipeline.evaluation.choice.search import Search
from pipeline.evaluation.degrade import Degrade
from pipeline.evaluation.measure import Measure
from pipeline.evaluation.settings import of_evaluation
from pipeline.resources import Sizes
from pipeline.run import Run
from pipeline.sink import Outcome, outcomes
from pipeline.source import Read
from pipeline.stages import Enhance, Restore
from pipeline.storage import StorageError, StorageOptions, local_copy
from pipeline.stream import TASK_RETRIES, actors, configure, read
from pipeline.units import ShardChanged, Unit, read_unit, require_as_listed


def evaluation(run: Run, units: Sequence[Unit], measure: Measure, sizes: Sizes) -> Iterator[Outcome]:
    """Evaluate `units`; one outcome each, in input order. A unit whose worker died has none."""
    configure(DataContext.get_current())
    resources = run.config.resources
    photos = read(reads(units, run.config.storage.input), run)
    degraded = actors(photos, Degrade, run, sizes.device, sizes.detect)
    if of_evaluation(run.config).evaluate.grid is not None:
        sharp = actors(degraded, Search, run, sizes.device, sizes.restore)
    else:
        clean = actors(degraded, Restore, run, sizes.device, sizes.restore)
        sharp = actors(clean, Enhance, run, sizes.device, sizes.enhance)
    stored = sharp.map_batches(
        measure,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=resources.commit_cpus,
        max_retries=TASK_RETRIES,
    )
    for block in stored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from outcomes(block)


def reads(units: Sequence[Unit], options: StorageOptions) -> list[Read]:
    """What reads given units of photos, shard by shard."""
    shards: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        shards[unit.shard.url].append(unit)
    return [partial(read_units, url, chosen, options) for url, chosen in shards.items()]


def read_units(url: str, units: Sequence[Unit], options: StorageOptions) -> Iterator[pa.Table]:
    """The blocks of some units of one shard; units that cannot be read become failed blocks."""
    left = list(units)
    try:
        with local_copy(url, options) as path:
            while left:
                photos = read_unit(path, left[0])
                require_as_listed(left[0].shard, options)
                yield to_block(left[0].id, photos)
                left.pop(0)
    except (StorageError, ShardChanged, OSError) as error:
        yield from (failed_block(unit.id, str(error), outside=True) for unit in left)
