"""The last resort for units that no round finished: their photos one by one, in a worker we can afford to lose."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, RayActorError

from pipeline.blocks import failure_of, from_block, to_block, unit_of
from pipeline.records import Photo
from pipeline.resources import PoolSize, Sizes
from pipeline.run import Run
from pipeline.sink import Commit, Outcome
from pipeline.source import Read
from pipeline.stages import Detect, Enhance, Restore

MAX_LOSSES_IN_A_ROW = 20
"""When so many photos lose their worker one after the other, it is not the photos."""

log = logging.getLogger(__name__)


class WorkersDie(RuntimeError):
    """Workers die whatever photo they get; one line."""


class Worker(Protocol):
    """What restores the only photo of a block, in a process of its own."""

    def restore(self, block: pa.Table) -> pa.Table:
        """The block with the photo decided, or a failed block."""
        ...


def isolate(
    run: Run,
    reads: Sequence[Read],
    sizes: Sizes,
    worker: Callable[[Run, str, PoolSize], Worker] | None = None,
) -> Iterator[Outcome]:
    """Finish what ``reads`` read photo by photo; one that kills its worker or never ends is rejected.

    worker: makes what restores a photo, all stages when not given.
    Raises WorkersDie when that happens to MAX_LOSSES_IN_A_ROW photos in a row: then it is not the photos.
    """
    commit = Commit(run)
    with Solitary(run, sizes, worker or AllStages) as solitary:
        for read in reads:
            for block in read():
                yield commit.commit(block if failure_of(block) else solitary.restore(block))


class Solitary:
    """One worker, replaced when a photo kills it."""

    def __init__(self, run: Run, sizes: Sizes, worker: Callable[[Run, str, PoolSize], Worker]) -> None:
        self.run, self.sizes, self.worker = run, sizes, worker
        self.actor: Any = None  # Ray's handles have no useful type
        self.losses_in_a_row = 0

    def __enter__(self) -> Solitary:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def restore(self, block: pa.Table) -> pa.Table:
        """The block of a unit with every photo decided."""
        photos = [self._alone(photo) if photo.status == "pending" else photo for photo in from_block(block)]
        return to_block(unit_of(block), photos)

    def _alone(self, photo: Photo) -> Photo:
        if self.actor is None:
            self.actor = self._start()
        seconds = self.run.config.resources.isolated_seconds
        try:
            answer: pa.Table = ray.get(self.actor.restore.remote(to_block(photo.unit, [photo])), timeout=seconds)
        except GetTimeoutError:
            photo.reject("worker.stuck", f"not finished after {seconds:g} s alone in a worker")
        except RayActorError:
            photo.reject("worker.died", "its worker died each time this photo was tried, at last alone in one")
        else:
            if not (failed := failure_of(answer)):
                self.losses_in_a_row = 0
                return from_block(answer)[0]
            photo.reject("worker.failed", failed.reason)
        log.warning("%s %s: %s", photo.shard, photo.key, photo.message)
        self._end()
        self.losses_in_a_row += 1
        if self.losses_in_a_row >= MAX_LOSSES_IN_A_ROW:
            raise WorkersDie(
                f"{self.losses_in_a_row} photos in a row lost their worker, the last {photo.key}: {photo.message}"
            )
        return photo

    def _start(self) -> Any:
        widest = self.sizes.restore
        options = {"num_cpus": widest.cpus, "num_gpus": widest.gpus, "max_restarts": 0}
        actor: Any = ray.remote(_Alone).options(**options).remote(self.worker, self.run, self.sizes.device, widest)
        ray.get(actor.ready.remote())  # a worker that cannot start is not the photo's doing
        return actor

    def _end(self) -> None:
        if self.actor is not None:
            ray.kill(self.actor)
            self.actor = None


class _Alone:
    """The actor around a worker."""

    def __init__(self, worker: Callable[[Run, str, PoolSize], Worker], run: Run, device: str, size: PoolSize) -> None:
        self.worker = worker(run, device, size)

    def ready(self) -> bool:
        return True

    def restore(self, block: pa.Table) -> pa.Table:
        return self.worker.restore(block)


class AllStages:
    """The stages of the stream in one process."""

    def __init__(self, run: Run, device: str, size: PoolSize) -> None:
        config, face_size = run.config.without_secrets(), run.models.face_size
        self.stages = [stage(config, face_size, device, size.threads) for stage in (Detect, Restore, Enhance)]

    def restore(self, block: pa.Table) -> pa.Table:
        for stage in self.stages:
            block = stage(block)
        return block
