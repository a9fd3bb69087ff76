"""The graph of a run: read, the stages of what is made (see `product`), commit."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.util.annotations import RayDeprecationWarning

from pipeline.blocks import TARGET_MAX_BLOCK_SIZE
from pipeline.resources import PoolSize, Sizes
from pipeline.run import Run
from pipeline.sink import Commit, Outcome, outcomes
from pipeline.source import Read, Units
from pipeline.stages import Stage

TASK_RETRIES = 1
"""Of a task whose worker died: Ray Data would repeat it for ever, as it would a photo that kills every worker."""


def stream(run: Run, reads: Sequence[Read], sizes: Sizes) -> Iterator[Outcome]:
    """Restore what ``reads`` read; one outcome per unit, as units finish, in their order.

    A unit whose worker died has no outcome.
    """
    configure(DataContext.get_current())
    committed = graph(run, reads, sizes)
    for block in committed.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from outcomes(block)


def graph(run: Run, reads: Sequence[Read], sizes: Sizes) -> Dataset:
    """Units in, outcomes out; nothing runs before it is iterated over."""
    resources = run.config.resources
    photos = read(reads, run)
    sharing = Counter(pool for _, pool in run.product.stages)
    for stage, pool in run.product.stages:
        photos = actors(photos, stage, run, sizes.device, part_of(getattr(sizes, pool), sharing[pool]))
    return photos.map_batches(
        (run.product.sink or Commit)(run),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=resources.commit_cpus,
        max_retries=TASK_RETRIES,
    )


def part_of(size: PoolSize, stages: int) -> PoolSize:
    """What one of several stages on a pool gets of it: workers as many, each with its part of the CPUs and GPUs."""
    return replace(size, cpus=size.cpus / stages, gpus=size.gpus / stages)


def read(reads: Sequence[Read], run: Run) -> Dataset:
    """The units of ``reads``, one block each."""
    return ray.data.read_datasource(
        Units(reads, run.label),
        override_num_blocks=len(reads),
        num_cpus=run.config.resources.read_cpus,
        ray_remote_args={"max_retries": TASK_RETRIES},
    )


def actors(dataset: Dataset, stage: type[Stage], run: Run, device: str, size: PoolSize) -> Dataset:
    """``stage`` on a pool of actors, unit by unit, or as many units at once as it works on."""
    constructor: dict[str, Any] = {
        "config": run.without_secrets(),
        "face_size": run.models.face_size,
        "device": device,
        "threads": size.threads,
    }
    units = stage.units(run.config)
    return dataset.map_batches(
        stage,
        fn_constructor_kwargs=constructor,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=size.workers,
            max_concurrent_calls_per_actor=units,
            enable_true_multi_threading=units > 1,
            max_tasks_in_flight_per_actor=units + 1,  # one waits, so that no actor does
        ),
        num_cpus=size.cpus,
        num_gpus=size.gpus,
        # A worker comes back however often it dies, but a unit is retried once only: the photo that kills its
        # worker would do so for ever. What is lost, its unit and those in flight beside it, waits for the next round.
        max_restarts=-1,
        max_task_retries=1,
    )


def configure(context: DataContext) -> None:
    """Ray Data's settings for this graph: units in order and whole, losses tolerated, nothing printed."""
    context.target_max_block_size = TARGET_MAX_BLOCK_SIZE
    context.execution_options.preserve_order = True
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Not Ray's newest, which allows as many CPUs as it thinks balanced and drops the fraction of a CPU that is left on
    # a node. On small machines nothing was then committed for ten seconds and more at a time.
    os.environ.setdefault("RAY_DATA_CLUSTER_AUTOSCALER", "V2")
    # The only way to bound retries until 2.64, which the project's requirements exclude.
    warnings.filterwarnings("ignore", message=".*ray_remote_args", category=RayDeprecationWarning)
    # Fewer units than workers is no news at the end of a run.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors", category=UserWarning)
