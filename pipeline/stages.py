"""What each stage does to the photos of a unit. A stage changes `Photo` objects in place; `Stage` does the rest.

No stage drops a photo. What is wrong with one photo rejects that photo, with a code and a line for a person;
what is wrong with the machine (memory, a GPU, the storage) fails the unit, to be tried again.

Models and torch are imported where they are loaded: the driver, which only names the stages, needs none of
them, and no actor waits for the libraries of another stage.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from PIL import Image

from operators.detect.align import AlignError, align
from operators.detect.contract import Detection
from operators.images import ImageError, ImageLimits, Picture, decode, encode_png, to_grey
from operators.parse.mask import to_png
from pipeline.blocks import failed_block, failure_of, from_block, to_block, unit_of
from pipeline.clock import SharedClock
from pipeline.config import DR2, Config, Resources
from pipeline.events.label import label_of
from pipeline.loaders import load_detector, load_enhancer, load_parser, load_remover, load_upscaler
from pipeline.metrics.names import BATCH_ROWS, EVALUATIONS, Metric
from pipeline.metrics.working import Meter
from pipeline.records import Face, Photo, PhotoStatus, Pixels
from pipeline.watchdog import beat, pulse, watch

if TYPE_CHECKING:
    from torch import Tensor

    from operators.dr2.engine import Engine
    from operators.restoration import DegradationRemover
    from operators.swinir_remover import SwinIRRemover


class Stage(ABC):
    """An actor's work: block in, block out. It ends its process when it gets nowhere (see `watchdog`).

    name: as in `Photo.seconds`. takes: the status of photos that it works on.
    """

    name: str
    takes: frozenset[PhotoStatus] = frozenset({"pending"})
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
            taken = [photo for photo in photos if photo.status in self.takes]
            try:
                self.process(taken)
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
            self._count(taken, time.perf_counter() - started)
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
        """Change photos whose status is in `takes`; may be called again for the same photos after it raised.

        Calls `beat` now and then: a stage that does not for `resources.stalled_seconds` is taken to hang.
        """


MOST_PIXELS = 64_000_000
"""Of decoded photos that are held to be looked at together; a larger one is alone."""


class Detect(Stage):
    """Decode, find faces, and cut them out aligned at ``face_size`` pixels."""

    name = "detect"

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        use_threads(threads)
        self.face_size, self.max_faces = face_size, config.detect.max_faces
        self.limits, self.upscale = limits(config), config.write.upscale
        self.detector = load_detector(config, device)

    def work(self, photos: Sequence[Photo]) -> None:
        for group in self.decoded(photos):
            beat()
            found = self.detector.detect([picture.pixels for _, picture in group])
            for (photo, picture), detections in zip(group, found, strict=True):
                cut = [self.cut(picture, detection) for detection in surest(detections, self.max_faces)]
                photo.faces = [face for face in cut if face is not None]
                if not photo.faces:
                    photo.status = "no_face"

    def decoded(self, photos: Sequence[Photo]) -> Iterator[list[tuple[Photo, Picture]]]:
        """Photos with their pixels, as many at a time as the detector looks at together; rejects what is no picture."""
        group: list[tuple[Photo, Picture]] = []
        held = 0
        for photo in photos:
            beat()
            try:
                picture = decode(photo.image, self.limits)
                self.check_enlarged(picture)
            except ImageError as error:
                photo.reject(error.code, error.message)
                continue
            photo.height, photo.width = picture.pixels.shape[:2]
            photo.grey = picture.grey
            pixels = photo.height * photo.width
            if group and (len(group) == self.detector.together or held + pixels > MOST_PIXELS):
                yield group
                group, held = [], 0
            group.append((photo, picture))
            held += pixels
        if group:
            yield group

    def check_enlarged(self, picture: Picture) -> None:
        """Raises ImageError for a photo that is within the limits, and larger than they allow when it is written."""
        height, width = (side * self.upscale for side in picture.pixels.shape[:2])
        if height * width > self.limits.max_pixels:
            raise ImageError(
                "write.too_large",
                f"{self.upscale} times as large it would have {width} x {height} pixels, over the limit of "
                f"{self.limits.max_pixels:,}; choose a smaller write.upscale, or raise limits.max_pixels",
            )

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
        self.remover = load_remover(config, device)

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
        self.parser = load_parser(config, device)

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
        if self.parser is not None:
            for (_, face, _), mask in zip(faces, self.parser.masks(np.stack(images)), strict=True):
                face.mask = None if mask is None else to_png(mask)


class Enlarge(Stage):
    """The whole photo larger, by a network; its faces are pasted into that when it is written."""

    name = "enlarge"
    takes = frozenset({"restored", "no_face"})

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        use_threads(threads)
        self.limits, self.upscaler = limits(config), load_upscaler(config, device)

    def work(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            beat()
            larger = self.upscaler.enlarge(decode(photo.image, self.limits).pixels, beat)
            photo.enlarged = encode_png(larger, grey=photo.grey)


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
