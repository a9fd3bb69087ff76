"""Units as a Ray Data source: a task reads some of them, one block each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline.blocks import failed_block, to_block
from pipeline.config import Unit as UnitLimits
from pipeline.metrics.working import metered
from pipeline.plan import ShardTask
from pipeline.room import explained
from pipeline.shards import index_shard
from pipeline.storage import StorageError, StorageOptions, local_copy
from pipeline.transient import PATIENCE
from pipeline.units import ShardChanged, cut, read_unit, require_as_listed

Read = Callable[[], Iterator[pa.Table]]
"""Reads some units when called, in a worker: one block per unit, a failed block for what cannot be read."""


class Units(Datasource):
    """The units of some reads, in their order."""

    def __init__(self, reads: Sequence[Read], run: str) -> None:
        """run: its label, to count for."""
        self._reads = [partial(_counted, read, run) for read in reads]

    def estimate_inmemory_data_size(self) -> int | None:
        return None  # an estimate would make Ray split blocks to reach a parallelism of its own

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, unknown) for read in self._reads]


def _counted(read: Read, run: str) -> Iterator[pa.Table]:
    return metered(read(), run)


def read_shard(
    task: ShardTask, limits: UnitLimits, options: StorageOptions, patience: float = PATIENCE
) -> Iterator[pa.Table]:
    """The blocks of the shard's remaining units; the shard is fetched once and checked before it is cut.

    A shard that cannot be read, or is not any more what was listed, becomes one failed block under its own name. The
    seconds of the first unit's photos hold those of fetching and checking as well.
    """
    in_place = "://" not in task.shard.url
    began = time.perf_counter()
    try:
        with local_copy(task.shard.url, options, patience=patience) as path:
            require_as_listed(task.shard, options, patience)  # after fetching: a copy is not half old and half new
            units = cut(task.shard, index_shard(path), max_samples=limits.max_samples, max_bytes=limits.max_bytes)
            for unit in task.remaining(units):
                photos = read_unit(path, unit)
                if in_place:  # anybody may write to it while we read
                    require_as_listed(task.shard, options, patience)
                spent = time.perf_counter() - began
                for photo in photos:
                    photo.spend("read", spent / len(photos))
                yield to_block(unit.id, photos)
                began = time.perf_counter()
    except (StorageError, ShardChanged) as error:
        yield failed_block(task.shard.relative, str(error), outside=True)
    except OSError as error:
        yield failed_block(task.shard.relative, explained(error), outside=True)
