"""The graph of an evaluation: a run's, between another beginning and another end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import ray.data
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline.blocks import failed_block, to_block
from pipeline.evaluation.choice.search import Search
from pipeline.evaluation.degrade import Degrade
from pipeline.evaluation.measure import Measure
from pipeline.evaluation.settings import of_evaluation
from pipeline.resources import Sizes
from pipeline.run import Run
from pipeline.sink import Outcome, outcomes
from pipeline.stages import Enhance, Restore
from pipeline.storage import StorageError, StorageOptions, local_copy
from pipeline.stream import actors, configure
from pipeline.units import ShardChanged, Unit, read_unit


def evaluation(run: Run, units: Sequence[Unit], measure: Measure, sizes: Sizes) -> Iterator[Outcome]:
    """Evaluate `units`; one outcome each, in input order. A unit whose worker died has none."""
    configure(DataContext.get_current())
    resources = run.config.resources
    source = ChosenUnits(units, run.input_options)
    photos = ray.data.read_datasource(source, override_num_blocks=len(source.shards), num_cpus=resources.read_cpus)
    degraded = actors(photos, Degrade, run, sizes.device, sizes.detect)
    if of_evaluation(run.config).evaluate.grid is not None:
        sharp = actors(degraded, Search, run, sizes.device, sizes.restore)
    else:
        clean = actors(degraded, Restore, run, sizes.device, sizes.restore)
        sharp = actors(clean, Enhance, run, sizes.device, sizes.enhance)
    stored = sharp.map_batches(measure, batch_size=None, batch_format="pyarrow", num_cpus=resources.commit_cpus)
    for block in stored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from outcomes(block)


class ChosenUnits(Datasource):
    """Given units of photos: one task per shard, one block per unit."""

    def __init__(self, units: Sequence[Unit], options: StorageOptions) -> None:
        self.shards: dict[str, list[Unit]] = defaultdict(list)
        for unit in units:
            self.shards[unit.shard.url].append(unit)
        self._options = options

    def estimate_inmemory_data_size(self) -> int | None:
        return None  # as for a run's shards: an estimate would make Ray split blocks

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(read_units, url, units, self._options), unknown) for url, units in self.shards.items()]


def read_units(url: str, units: Sequence[Unit], options: StorageOptions) -> Iterator[pa.Table]:
    """The blocks of some units of one shard; units that cannot be read become failed blocks."""
    left = list(units)
    try:
        with local_copy(url, options) as path:
            while left:
                yield to_block(left[0].id, read_unit(path, left[0]))
                left.pop(0)
    except (StorageError, ShardChanged, OSError) as error:
        yield from (failed_block(unit.id, str(error)) for unit in left)
