"""The last resort for units that no round finished: their photos one by one, in a worker we can afford to lose."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline import last_words
from pipeline.blocks import failed_block, failure_of, from_block, to_block, unit_of
from pipeline.config import Config
from pipeline.events.kinds import PhotoLostWorker
from pipeline.events.telling import tell
from pipeline.last_words import LastWords
from pipeline.metrics.working import metered
from pipeline.records import Photo
from pipeline.resources import PoolSize, Sizes
from pipeline.run import Run
from pipeline.sink import Commit, Outcome
from pipeline.source import Read
from pipeline.stages import is_of_the_machine, one_line
from pipeline.watchdog import watch

LOSSES_BEFORE_A_TRIAL = 3
"""So many photos of a unit may lose their worker one after the other before a photo known to be good shows whose fault
it is; at the unit's end one is enough, for its verdicts are about to be committed."""

MACHINES = 3
"""So many machines may go away under a photo: they are taken back, or it is what takes them down."""

LAST_WORDS_SECONDS = 60.0
"""For fetching them from the machine of a dead worker, which may be gone as well."""

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
    Raises WorkersDie when several photos in a row lose their worker and then a photo known to be good does as well.
    """
    sink = (run.product.sink or Commit)(run)
    with Solitary(run, sizes, worker or AllStages) as solitary:
        for read in reads:
            for block in metered(read(), run.label):
                yield sink.commit(block if failure_of(block) else solitary.restore(block))


class Solitary:
    """One worker, replaced when a photo kills it."""

    def __init__(self, run: Run, sizes: Sizes, worker: Callable[[Run, str, PoolSize], Worker]) -> None:
        self.run, self.sizes, self.worker = run, sizes, worker
        self.actor: Any = None  # Ray's handles have no useful type
        self.node, self.words = "", ""  # the actor's machine, and where on it its last words will be
        self.losses_in_a_row = 0
        self.lost: Photo  # the latest that was

    def __enter__(self) -> Solitary:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end(ask=kind is None)  # an interrupt does not wait for anything

    def restore(self, block: pa.Table) -> pa.Table:
        """The block of a unit with every photo decided."""
        photos = [self._alone(photo) if photo.status == "pending" else photo for photo in from_block(block)]
        if self.losses_in_a_row:  # before anything is committed that was not the photos' doing
            self._try_a_good_photo()
        return to_block(unit_of(block), photos)

    def _alone(self, photo: Photo) -> Photo:
        answer = self._answer(photo)
        if isinstance(answer, Photo):
            self.losses_in_a_row = 0
            return answer
        photo.reject(*answer)
        lost = PhotoLostWorker(
            unit=photo.unit, key=photo.key, shard=photo.shard, code=photo.error, reason=photo.message
        )
        tell(lost, log)
        self.lost, self.losses_in_a_row = photo, self.losses_in_a_row + 1
        if self.losses_in_a_row >= LOSSES_BEFORE_A_TRIAL:
            self._try_a_good_photo()
        return photo

    def _try_a_good_photo(self) -> None:
        answer = self._answer(good_photo())
        if not isinstance(answer, Photo):
            raise WorkersDie(
                f"{self.losses_in_a_row} photos in a row lost their worker, the last {self.lost.key} "
                f"({self.lost.message}), and then so did one known to be good ({answer[1]}); it is not the photos"
            )
        self.losses_in_a_row = 0

    def _answer(self, photo: Photo) -> Photo | tuple[str, str]:
        """The photo, decided; or why it could not be, code and message, and then the worker is gone."""
        for _ in range(MACHINES):
            with suppress(_MachineGone):
                return self._ask(photo)
        return "worker.died", f"its machine, where it was alone, went away, {MACHINES} times"

    def _ask(self, photo: Photo) -> Photo | tuple[str, str]:
        """The same, from one worker. Raises _MachineGone when nobody can tell whose fault it is."""
        if self.actor is None:
            self._start()
        seconds = self.run.config.resources.isolated_seconds
        try:
            answer: pa.Table = ray.get(self.actor.restore.remote(to_block(photo.unit, [photo])), timeout=seconds)
        except GetTimeoutError:
            self._end()
            return "worker.stuck", f"not finished after {seconds:g} s alone in a worker"
        except OutOfMemoryError:
            self._end()
            return "worker.died", "Ray ended its worker, where it was alone, because the machine's memory was full"
        except RayActorError:
            node = self.node
            words = self._end()
            if words == LastWords() and not _is_alive(node):
                raise _MachineGone from None
            return self._cause(words)
        if failed := failure_of(answer):
            self._end()
            return "worker.failed", f"alone in a worker: {failed.reason}"
        return from_block(answer)[0]

    def _cause(self, words: LastWords) -> tuple[str, str]:
        """Code and message for the death of a worker."""
        place = f" in {words.place}" if words.place else ""
        if words.stalled:
            seconds = self.run.config.resources.stalled_seconds
            return "worker.stuck", f"no progress for {seconds:g} s alone in a worker, which stood{place or ' still'}"
        if words.fault:
            return "worker.died", f"its worker, where it was alone, died of {words.fault}{place}"
        return "worker.died", "its worker, where it was alone, died without a word; for want of memory, perhaps"

    def _start(self) -> None:
        widest = self.sizes.restore
        options = {"num_cpus": widest.cpus, "num_gpus": widest.gpus, "max_restarts": 0}
        actor: Any = ray.remote(_Alone).options(**options).remote(self.worker, self.run, self.sizes.device, widest)
        self.node, self.words = ray.get(actor.ready.remote())  # one that cannot start is not the photo's doing
        self.actor = actor

    def _end(self, ask: bool = True) -> LastWords:
        """End the worker, dead or alive; what it said last. ask: else nobody asks it, and nothing is cleared away."""
        if self.actor is None:
            return LastWords()
        ray.kill(self.actor)
        self.actor = None
        if not ask:
            return LastWords()
        there = NodeAffinitySchedulingStrategy(self.node, soft=False)
        task: Any = ray.remote(last_words.take).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        try:
            return last_words.understand(ray.get(task.remote(self.words), timeout=LAST_WORDS_SECONDS))
        except RayError:  # its machine died with it, or is too busy to say
            return LastWords()


class _MachineGone(Exception):
    """A worker's machine is not there any more."""


def _is_alive(node: str) -> bool:
    return any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())


class _Alone:
    """The actor around a worker."""

    def __init__(self, worker: Callable[[Run, str, PoolSize], Worker], run: Run, device: str, size: PoolSize) -> None:
        self.words = last_words.prepare()
        self.worker = worker(run, device, size)

    def ready(self) -> tuple[str, str]:
        """The machine it is on, and where on it its last words will be."""
        return ray.get_runtime_context().get_node_id(), self.words

    def restore(self, block: pa.Table) -> pa.Table:
        return self.worker.restore(block)


class AllStages:
    """The stages of the stream in one process, and what a commit does with their results."""

    def __init__(self, run: Run, device: str, size: PoolSize) -> None:
        config, face_size = alone(run.without_secrets()), run.models.face_size
        self.stages = [stage(config, face_size, device, size.threads) for stage, _ in run.product.stages]
        self.context, self.resources = run.commit_context(), config.resources
        self.commits = run.product.sink is None

    def restore(self, block: pa.Table) -> pa.Table:
        for stage in self.stages:
            block = stage(block)
        return self.written(block) if self.commits and not failure_of(block) else block

    def written(self, block: pa.Table) -> pa.Table:
        """The block, its results encoded once for nothing: if that kills a worker, let it be this one."""
        with watch(self.resources.stalled_seconds, self.resources.unit_seconds):
            for photo in from_block(block):
                try:
                    if photo.status != "rejected":
                        self.context.encode(photo, self.context)
                except Exception as error:
                    if is_of_the_machine(error):
                        return failed_block(unit_of(block), f"write: {one_line(error)}")
                    return block  # the commit meets it again, and rejects the photo
        return block


def alone(config: Config) -> Config:
    """The configuration with the time of a photo for that of a unit."""
    resources = config.resources
    limits = {"unit_seconds": resources.isolated_seconds}
    return config.model_copy(update={"resources": resources.model_copy(update=limits)})


def good_photo() -> Photo:
    """A small photograph with a face that every stage has something to do for."""
    from skimage.data import astronaut

    from operators.images import encode_png

    return Photo("known-to-be-good", 0, "known-to-be-good", "good.png", encode_png(astronaut()[::2, ::2]))
