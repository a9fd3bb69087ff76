"""What each stage does to the photos of a unit. A stage changes `Photo` objects in place; `Stage` does the rest.

No stage drops a photo. What is wrong with one photo rejects that photo, with a code and a line for a person;
what is wrong with the machine (memory, a GPU, the storage) fails the unit, to be tried again.

Models and torch are imported where they are loaded: the driver, which only names the stages, needs none of
them, and no actor waits for the libraries of another stage.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from PIL import Image

from operators.detect.align import AlignError, align
from operators.detect.contract import Detection, Detector
from operators.images import ImageError, ImageLimits, Picture, decode, to_grey
from pipeline.blocks import failed_block, failure_of, from_block, to_block, unit_of
from pipeline.clock import SharedClock
from pipeline.config import DR2, Config, Resources
from pipeline.events.label import label_of
from pipeline.metrics.names import BATCH_ROWS, EVALUATIONS, Metric
from pipeline.metrics.working import Meter
from pipeline.models import enhancer_options, local_model
from pipeline.records import Face, Photo, Pixels
from pipeline.store.loading import detector_of, enhancer_of, prior_of
from pipeline.watchdog import beat, pulse, watch

if TYPE_CHECKING:
    from torch import Tensor

    from operators.dr2.engine import Engine
    from operators.dr2.prior import Prior
    from operators.enhance.contract import Enhancer
    from operators.restoration import DegradationRemover
    from operators.swinir_remover import SwinIRRemover


class Stage(ABC):
    """An actor's work: block in, block out. It ends its process when it gets nowhere (see `watchdog`).

    name: as in `Photo.seconds`.
    """

    name: str
    _clock: SharedClock
    _resources: Resources | None
    _meter: Meter | None

    def __new__(cls, config: Config | None = None, *_: object, **__: object) -> Self:
        """config: nobody watches or counts a stage without one."""
        stage = super().__new__(cls)
        stage._clock = SharedClock()  # here, so that no stage forgets it and no two threads make two
        stage._resources = None if config is None else config.resources
        stage._meter = None if config is None else Meter(label_of(config.output), cls.name)
        return stage

    @classmethod
    def units(cls, config: Config) -> int:
        """How many units an actor works on at once, each in a thread of its own."""
        return 1

    def __call__(self, block: pa.Table) -> pa.Table:
        """The unit with this stage done; a failed unit when the machine let it down."""
        if failure_of(block):
            return block
        unit = unit_of(block)
        with self._watched():
            started, photos = time.perf_counter(), from_block(block)
            pending = [photo for photo in photos if photo.status == "pending"]
            try:
                self.process(pending)
            except Exception as error:
                if not is_of_the_machine(error):
                    raise
                if self._meter is not None:
                    self._meter.failed()
                return failed_block(unit, f"{self.name}: {one_line(error)}")
            finally:
                if self._meter is not None:
                    self._meter.grown(self.totals)
            result = to_block(unit, photos)
            self._count(pending, time.perf_counter() - started)
            return result

    def totals(self) -> Mapping[Metric, float]:
        """Numbers of this stage's own that only ever grow, for metrics."""
        return {}

    def _count(self, photos: Sequence[Photo], seconds: float) -> None:
        if self._meter is None:
            return
        codes = [photo.error for photo in photos if photo.status == "rejected"]
        self._meter.done(len(photos), sum(len(photo.faces) for photo in photos), codes, seconds)

    def _watched(self) -> AbstractContextManager[None]:
        if self._resources is None:
            return nullcontext()
        return watch(self._resources.stalled_seconds, self._resources.unit_seconds)

    def process(self, photos: Sequence[Photo]) -> None:
        """Work on photos together; if that raises, one by one, so that only the culprits are rejected."""
        if not photos:
            return
        with self._clock.work() as seconds:
            try:
                self.work(photos)
            except Exception as error:
                if is_of_the_machine(error):
                    raise
                for photo in photos:
                    self.work_alone(photo)
            spent = seconds()
        weights = [max(1, len(photo.faces)) for photo in photos]
        for photo, weight in zip(photos, weights, strict=True):
            photo.spend(self.name, spent * weight / sum(weights))

    def work_alone(self, photo: Photo) -> None:
        """Work on one photo; reject it if that raises."""
        try:
            self.work([photo])
        except Exception as error:
            if is_of_the_machine(error):
                raise
            photo.reject(f"{self.name}.failed", one_line(error))

    @abstractmethod
    def work(self, photos: Sequence[Photo]) -> None:
        """Change photos whose status is "pending"; may be called again for the same photos after it raised.

        Calls `beat` now and then: a stage that does not for `resources.stalled_seconds` is taken to hang.
        """


class Detect(Stage):
    """Decode, find faces, and cut them out aligned at ``face_size`` pixels."""

    name = "detect"

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        use_threads(threads)
        self.face_size, self.max_faces = face_size, config.detect.max_faces
        self.limits = limits(config)
        self.detector = load_detector(config, device)

    def work(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            beat()
            try:
                picture = decode(photo.image, self.limits)
            except ImageError as error:
                photo.reject(error.code, error.message)
                continue
            photo.height, photo.width = picture.pixels.shape[:2]
            photo.grey = picture.grey
            (detections,) = self.detector.detect([picture.pixels])
            photo.faces = [face for found in surest(detections, self.max_faces) if (face := self.cut(picture, found))]
            if not photo.faces:
                photo.status = "no_face"

    def cut(self, picture: Picture, found: Detection) -> Face | None:
        """The face, aligned; None where its landmarks span nothing that could be cut out."""
        try:
            crop, matrix = align(picture.pixels, found.landmarks, self.face_size)
        except AlignError:
            return None
        return Face(found.box, found.score, found.landmarks, matrix=matrix, crop=crop)


class Restore(Stage):
    """Remove degradation, by DR2 with N and tau chosen per face or fixed, or by another network."""

    name = "restore"

    @classmethod
    def units(cls, config: Config) -> int:
        """Two: the last faces of one and the first of the next fill the engine's batches together. One where there is
        no engine, and for a judge of pyiqa, which more than one thread may not use."""
        return 2 if config.restore.remover == DR2 and not config.restore.niqe.startswith("pyiqa:") else 1

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        use_threads(threads)
        self.remover = dr2(config, device) if config.restore.remover == DR2 else swinir(config, device)

    def totals(self) -> Mapping[Metric, float]:
        """See `Stage`."""
        return of_remover(self.remover)

    def work(self, photos: Sequence[Photo]) -> None:
        faces = [(photo, index, face) for photo in photos for index, face in enumerate(photo.faces)]
        crops = [face.crop for _, _, face in faces if face.crop is not None]
        removals = self.remover.remove(crops, [(photo.key, index) for photo, index, _ in faces], pulse())
        for (photo, _, face), removal in zip(faces, removals, strict=True):
            image = to_grey(removal.image) if photo.grey else removal.image
            face.status, face.reason = removal.status, removal.reason
            face.n, face.tau, face.evaluations = removal.n, removal.tau, removal.evaluations
            face.candidates = removal.candidates
            face.niqe_in, face.niqe_dr2 = finite(removal.niqe_in), finite(removal.niqe_out)
            face.image = image
            if removal.status == "restored":
                face.dr2 = image
            else:  # good as it came, and so it stays
                face.niqe_out = face.niqe_in


class Enhance(Stage):
    """From the clean face to the sharp face; grey stays grey."""

    name = "enhance"

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        from operators.quality.judge import load_judge

        use_threads(threads)
        self.face_size, self.batch = face_size, config.resources.enhance.batch
        self.enhancer = load_enhancer(config, device)
        self.niqe = load_judge(config.restore.niqe, device)

    def work(self, photos: Sequence[Photo]) -> None:
        faces = [(photo, face, face.dr2) for photo in photos for face in photo.faces if face.dr2 is not None]
        for start in range(0, len(faces), self.batch):
            beat()
            self.enhance(faces[start : start + self.batch])
        for photo in photos:
            photo.status = "restored"

    def enhance(self, faces: Sequence[tuple[Photo, Face, Pixels]]) -> None:
        """One batch: photo, face and its result so far."""
        side = self.enhancer.input_size
        sharp = self.enhancer.enhance(np.stack([resized(pixels, side) for _, _, pixels in faces]))
        images = [to_grey(image) if photo.grey else image for (photo, _, _), image in zip(faces, sharp, strict=True)]
        # Scored at the size of the crop, so that the scores before and after speak of the same scale.
        scores = self.niqe.score(to_unit_range([resized(image, self.face_size) for image in images]))
        for (_, face, _), image, score in zip(faces, images, scores, strict=True):
            face.image, face.niqe_out = image, finite(score)


def dr2(config: Config, device: str) -> DegradationRemover:
    """DR2 with the prior of a run, and its choice of (N, tau)."""
    from operators.dr2.checkpoints import load_prior
    from operators.quality.judge import load_judge
    from operators.quality.selection import Policy
    from operators.restoration import DegradationRemover, Fixed

    settings = config.restore
    fixed = None if settings.n is None or settings.tau is None else Fixed(settings.n, settings.tau)
    return DegradationRemover(
        load_prior(settings.prior, device=device),
        load_judge(settings.niqe, device),
        seed=config.seed,
        batch=config.resources.restore.batch,
        select=fixed or Policy.load(settings.policy),
        stride=settings.stride,
    )


def swinir(config: Config, device: str) -> SwinIRRemover:
    """The network that stands for DR2 in a run."""
    from operators.quality.judge import load_judge
    from operators.swinir_remover import SwinIRRemover

    return SwinIRRemover.load(Path(config.restore.remover), load_judge(config.restore.niqe, device), device)


def of_remover(remover: DegradationRemover | SwinIRRemover) -> Mapping[Metric, float]:
    """What a remover has done, for metrics."""
    from operators.restoration import DegradationRemover

    if isinstance(remover, DegradationRemover):
        return of_engine(remover.engine)
    return {EVALUATIONS: remover.evaluations}


def of_engine(engine: Engine) -> Mapping[Metric, float]:
    """What an engine has done, for metrics."""
    return {EVALUATIONS: engine.evaluations, BATCH_ROWS: engine.rows}


def use_threads(count: int) -> None:
    """Torch threads of this process; Ray leaves an actor one."""
    import torch

    torch.set_num_threads(count)


def is_of_the_machine(error: Exception) -> bool:
    """Whether memory, storage or the GPU failed, so that trying again elsewhere or later makes sense."""
    import torch

    return isinstance(error, MemoryError | OSError | torch.OutOfMemoryError | torch.AcceleratorError)


def limits(config: Config) -> ImageLimits:
    """What is refused before it is decoded."""
    return ImageLimits(max_pixels=config.limits.max_pixels, max_bytes=config.limits.max_bytes)


def load_detector(config: Config, device: str) -> Detector:
    """The detector of a run."""
    return detector_of(local_model(config, "detector").source, device)


def load_prior(config: Config, device: str) -> Prior:
    """The prior of a run."""
    found = local_model(config, "prior")
    return prior_of(found.source, device, found.settings)


def load_enhancer(config: Config, device: str) -> Enhancer:
    """The enhancer of a run, working as its settings say."""
    found = local_model(config, "enhancer")
    return enhancer_of(found.source, device, enhancer_options(config), found.identity)


def surest(detections: Sequence[Detection], most: int) -> list[Detection]:
    """At most ``most`` detections, those with the highest scores, in the order they came."""
    kept = sorted(range(len(detections)), key=lambda i: -detections[i].score)[:most]
    return [detections[i] for i in sorted(kept)]


def resized(pixels: Pixels, side: int) -> Pixels:
    """(S, S, 3) uint8 at another size, antialiased; itself when it has that size."""
    if len(pixels) == side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def to_unit_range(images: Sequence[Pixels]) -> Tensor:
    """(B, 3, S, S) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def finite(score: float | None) -> float | None:
    """The score, or None where there is none: +inf says that an image could not be judged."""
    return float(score) if score is not None and np.isfinite(score) else None


def one_line(error: BaseException) -> str:
    """The error for a person: its type and message in one line."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
