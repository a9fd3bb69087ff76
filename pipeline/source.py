"""Shards as a Ray Data source: one task per shard, one block per unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline.blocks import failed_block, to_block
from pipeline.config import Unit as UnitLimits
from pipeline.plan import ShardTask
from pipeline.shards import index_shard
from pipeline.storage import StorageError, StorageOptions, local_copy
from pipeline.units import ShardChanged, cut, read_unit


class Shards(Datasource):
    """What is left of the given shards."""

    def __init__(self, tasks: Sequence[ShardTask], limits: UnitLimits, options: StorageOptions) -> None:
        self._tasks, self._limits, self._options = tasks, limits, options

    def estimate_inmemory_data_size(self) -> int | None:
        return None  # an estimate would make Ray split blocks to reach a parallelism of its own

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(read_shard, task, self._limits, self._options), unknown) for task in self._tasks]


def read_shard(task: ShardTask, limits: UnitLimits, options: StorageOptions) -> Iterator[pa.Table]:
    """The blocks of the shard's remaining units; the shard is fetched once and checked before it is cut.

    A shard that cannot be read becomes one failed block under its own name.
    """
    try:
        with local_copy(task.shard.url, options) as path:
            units = cut(task.shard, index_shard(path), max_samples=limits.max_samples, max_bytes=limits.max_bytes)
            for unit in task.remaining(units):
                yield to_block(unit.id, read_unit(path, unit))
    except (StorageError, ShardChanged, OSError) as error:
        yield failed_block(task.shard.relative, str(error))
