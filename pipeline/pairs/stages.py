"""What a run of pairs does to photos: find the face that becomes the target, then degrade it once per pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from operators.detect.align import AlignError, align, resize_matrix
from operators.images import ImageError, Picture, decode, to_grey
from operators.pairs import gate
from pipeline.config import Config, Pairs
from pipeline.labels import LabelError, the_face
from pipeline.loaders import load_detector, load_prior
from pipeline.metrics.names import Metric
from pipeline.records import Face, Photo
from pipeline.stages import Stage, finite, limits, of_engine, to_unit_range, use_threads
from pipeline.watchdog import beat, pulse

if TYPE_CHECKING:
    from operators.pairs.maker import Low


class Target(Stage):
    """Cut the labelled face, or else the surest one, and let it through the gate: `Face.image`, at the pairs' size."""

    name = "target"

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        from operators.quality.judge import load_judge

        use_threads(threads)
        pairs = of_pairs(config)
        self.face_size, self.size, self.limits = face_size, pairs.size, limits(config)
        self.gate = gate.Gate(**pairs.gate.model_dump(exclude={"duplicates"}))
        self.detector = load_detector(config, device)
        self.niqe = None if pairs.gate.niqe is None else load_judge(config.restore.niqe, device)

    def work(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            beat()
            try:
                self.cut(photo, decode(photo.image, self.limits))
            except (ImageError, AlignError) as error:
                photo.reject(error.code, error.message)
            except LabelError as error:
                photo.reject("label.unreadable", str(error))

    def cut(self, photo: Photo, picture: Picture) -> None:
        """Give the photo its target, or reject it."""
        photo.height, photo.width = picture.pixels.shape[:2]
        photo.grey = picture.grey
        if (face := the_face(photo, picture, self.detector)) is None:
            return
        landmarks, score = face
        image, matrix = align(picture.pixels, landmarks, self.size)
        niqe = None if self.niqe is None else float(self.niqe.score(to_unit_range([image]))[0])
        enlargement = math.hypot(matrix[0, 0], matrix[1, 0])
        if refusal := self.gate.refusal(gate.Target(image, landmarks, enlargement, niqe)):
            photo.reject(*refusal)
            return
        box = (*landmarks.min(axis=0).tolist(), *landmarks.max(axis=0).tolist())
        to_crop = resize_matrix(matrix, self.size, self.face_size)
        photo.faces = [Face(box, score, landmarks, matrix=to_crop, image=image, niqe_out=finite(niqe))]


class MakePairs(Stage):
    """From a target to its pairs: one `Face` each, `crop` the low-quality image, `image` the target.

    `reason` is the recipe's name, `candidates` the draw a pair was made with, and on what, for the last digit of a
    network's output depends on that.
    """

    name = "pair"

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        from operators.pairs.maker import PairMaker

        use_threads(threads)
        pairs = of_pairs(config)
        self.mixture, self.per_face, self.device = pairs.mixture(), pairs.per_face, device
        prior = load_prior(config, device) if self.mixture.weights.get("dr2") else None
        self.maker = PairMaker(face_size, prior, seed=config.seed, batch=config.resources.restore.batch)

    def totals(self) -> Mapping[Metric, float]:
        """See `Stage`."""
        return {} if self.maker.engine is None else of_engine(self.maker.engine)

    def work(self, photos: Sequence[Photo]) -> None:
        import torch

        computed = {"device": self.device, "threads": torch.get_num_threads()}
        targets = [photo.faces[0] for photo in photos]
        images = [target.image for target in targets if target.image is not None]
        beat()
        lows = self.maker.make(images, [(photo.key, 0) for photo in photos], self.mixture, self.per_face, pulse())
        for photo, target, of_face in zip(photos, targets, lows, strict=True):
            faces = [self.pair(photo, target, low, computed) for low in of_face.pairs]
            faces[0].evaluations = of_face.evaluations  # of all pairs together
            photo.faces, photo.status = faces, "restored"

    def pair(self, photo: Photo, target: Face, low: Low, computed: dict[str, Any]) -> Face:
        """One pair of a target."""
        from operators.pairs.recipes import to_json

        draw = to_json(low.draw)
        return replace(
            target,
            crop=to_grey(low.image) if photo.grey else low.image,
            status="restored",
            n=draw.get("n"),
            tau=draw.get("tau"),
            reason=draw["recipe"],
            candidates=[draw, computed],
        )


def of_pairs(config: Config) -> Pairs:
    """The section of a run that makes pairs. Raises TypeError for another run."""
    if config.pairs is None:
        raise TypeError("this stage makes training pairs and needs a configuration with the section 'pairs'")
    return config.pairs
