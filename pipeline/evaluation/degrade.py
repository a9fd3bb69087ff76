"""The first stage of an evaluation: from a sharp photo to its face at every setting, degraded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from operators.detect.align import AlignError, align, resize_matrix
from operators.images import ImageError, Picture, decode
from pipeline.config import Config
from pipeline.evaluation.faces import (
    MAX_ENLARGEMENT,
    TOO_SMALL,
    at_size,
    degraded,
)
from pipeline.evaluation.settings import of_evaluation
from pipeline.labels import LabelError, the_face
from pipeline.loaders import load_detector
from pipeline.records import Face, Photo
from pipeline.stages import Stage, limits, use_threads
from pipeline.watchdog import beat


class Degrade(Stage):
    """Find the face, cut the truth, and make one `Face` of it per setting, in the order of `settings_of`."""

    name = "degrade"

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        use_threads(threads)
        evaluation = of_evaluation(config)
        self.face_size, self.size, self.seed = face_size, evaluation.evaluate.size, config.seed
        self.settings_of = evaluation.settings_of
        self.limits = limits(config)
        self.detector = load_detector(config, device)

    def work(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            beat()
            try:
                self.degrade(photo, decode(photo.image, self.limits))
            except ImageError as error:
                photo.reject(error.code, error.message)
            except LabelError as error:
                photo.reject("label.unreadable", str(error))

    def degrade(self, photo: Photo, picture: Picture) -> None:
        """Give the photo its faces, or reject it."""
        photo.height, photo.width = picture.pixels.shape[:2]
        photo.grey = picture.grey
        if (face := the_face(photo, picture, self.detector)) is None:
            return
        landmarks, _ = face
        try:
            truth, matrix = align(picture.pixels, landmarks, self.size)
        except AlignError as error:
            photo.reject(error.code, error.message)
            return
        enlargement = math.hypot(matrix[0, 0], matrix[1, 0])
        if enlargement > MAX_ENLARGEMENT:
            photo.reject(TOO_SMALL, f"its face would be enlarged {enlargement:.2f} times to {self.size} px")
            return
        box = (*landmarks.min(axis=0).tolist(), *landmarks.max(axis=0).tolist())
        to_crop = resize_matrix(matrix, self.size, self.face_size)
        for setting in self.settings_of(photo.key):
            image = degraded(truth, setting, seed=self.seed, key=photo.key, grey=photo.grey)
            crop = at_size(image, self.face_size)
            photo.faces.append(Face(box, 1.0, landmarks, matrix=to_crop, crop=crop))
