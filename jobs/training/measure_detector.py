"""How good a detector is on labelled photos it has not seen: recall, precision, landmark error, false faces."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.training.ageing import age
from jobs.training.close_ups import sideways
from jobs.training.faces import LabelledPhoto
from jobs.training.scenes import STORED_SIZE, background, prepare
from operators.degrade.classical import draw
from operators.detect.contract import Detection, Detector
from operators.detect.suppression import overlaps

CORRECT = 0.5
"""Least intersection over union with the label of a face that counts as found."""

FACE_SIZES = (24, 48, 100, 200, 400)
"""Sizes, sqrt(width * height) of the box in pixels, at which recall is measured on resized photos."""

NARROW = 0.35
"""A face whose eyes are nearer to each other than this share of its box's width is a profile."""

Alteration = Callable[[LabelledPhoto, np.random.Generator], LabelledPhoto]


def measure(detector: Detector, photos: Sequence[LabelledPhoto], seed: int) -> dict[str, float]:
    """Figures of merit under each of `CONDITIONS`, from draws of `seed` and the key alone.

    recall: share of labelled faces found. precision: share of detections in labelled photos that are the
    labelled face; a second, unlabelled face counts against it. landmark: mean distance of the five landmarks
    over the labelled eye distance: its mean, median and 90th percentile over all found faces, and as
    landmark_no_profile the mean over those that `is_profile` does not name.
    recall_24px and so on: recall in photos resized so that the face has that size.
    false_per_faceless: detections per picture made of what surrounds the faces.
    """
    labelled = [photo for photo in photos if photo.box is not None and photo.landmarks is not None]
    figures = {"faces": float(len(labelled)), "profiles": float(sum(is_profile(photo) for photo in labelled))}
    for name, alter in CONDITIONS.items():
        merits = _merits(detector, (alter(photo, _generator(photo, seed)) for photo in labelled))
        figures |= {f"{merit}_{name}": value for merit, value in merits.items()}
    for size in FACE_SIZES:
        figures[f"recall_{size}px"] = _merits(detector, (resized(photo, size) for photo in labelled))["recall"]
    figures["false_per_faceless"] = _false_faces(detector, labelled, seed)
    return figures


def _merits(detector: Detector, photos: Iterable[LabelledPhoto]) -> dict[str, float]:
    faces, detections, errors, profiles = 0, 0, [], []
    for photo in photos:
        answers = detector.detect([photo.pixels])[0]
        faces += 1
        detections += len(answers)
        face = _matching(answers, photo.box)
        if face is not None and photo.landmarks is not None:
            errors.append(landmark_error(face.landmarks, photo.landmarks))
            profiles.append(is_profile(photo))
    error = np.array(errors or [math.nan])
    plain = error[~np.array(profiles, bool)] if errors else error
    return {
        "recall": len(errors) / max(1, faces),
        "precision": len(errors) / max(1, detections),
        "landmark": float(error.mean()),
        "landmark_median": float(np.median(error)),
        "landmark_p90": float(np.quantile(error, 0.9)),
        "landmark_no_profile": float(plain.mean()) if len(plain) else math.nan,
    }


def landmark_error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Mean distance of landmarks (5, 2) from the wanted ones, over the wanted distance of the eyes."""
    eyes = float(np.linalg.norm(wanted[1] - wanted[0]))
    return float(np.linalg.norm(found - wanted, axis=1).mean()) / max(eyes, 1e-6)


def is_profile(photo: LabelledPhoto) -> bool:
    """True when the labels have the nose beyond an eye, or the eyes nearer than `NARROW` of the box's width."""
    if photo.landmarks is None or photo.box is None:
        return False
    eyes = float(np.linalg.norm(photo.landmarks[1] - photo.landmarks[0]))
    return not 0 <= sideways(photo.landmarks) <= 1 or eyes < NARROW * (photo.box[2] - photo.box[0])


def face_size(photo: LabelledPhoto) -> float:
    """sqrt(width * height) of the labelled box, pixels."""
    if photo.box is None:
        raise ValueError(f"{photo.key} has no box")
    x0, y0, x1, y1 = photo.box
    return math.sqrt((x1 - x0) * (y1 - y0))


def resized(photo: LabelledPhoto, size: float) -> LabelledPhoto:
    """The photo and its labels, resized so that the face measures `size` pixels."""
    if photo.box is None:
        raise ValueError(f"{photo.key} has no box")
    factor = size / face_size(photo)
    image = Image.fromarray(photo.pixels)
    width, height = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    scale = np.array([width / image.width, height / image.height])

    def moved(points: NDArray) -> NDArray:
        return ((points + 0.5) * scale - 0.5).astype(np.float32)

    x0, y0, x1, y1 = moved(np.array(photo.box).reshape(2, 2)).ravel().tolist()
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    landmarks = None if photo.landmarks is None else moved(photo.landmarks)
    return replace(photo, pixels=pixels, landmarks=landmarks, box=(x0, y0, x1, y1))


def _clean(photo: LabelledPhoto, rng: np.random.Generator) -> LabelledPhoto:
    return photo


def _aged(photo: LabelledPhoto, rng: np.random.Generator) -> LabelledPhoto:
    return replace(photo, pixels=np.asarray(age(Image.fromarray(photo.pixels), face_size(photo), rng)))


def _severe(r: float) -> Alteration:
    def alter(photo: LabelledPhoto, rng: np.random.Generator) -> LabelledPhoto:
        return replace(photo, pixels=draw("severe", r, rng, round(face_size(photo))).apply(photo.pixels, rng))

    return alter


CONDITIONS: Mapping[str, Alteration] = {
    "clean": _clean,
    "aged": _aged,
    "severe8": _severe(8),
    "severe16": _severe(16),
}
"""As it is; aged at random strength; Eq. 13 severe over the whole photo, as bad for the face's box as for 512 px at
that r. An aligned crop is 1.7 times as wide as the box, so "severe16" is about r = 9 for the crop."""


def _generator(photo: LabelledPhoto, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(photo.key.encode())))


def _matching(faces: Sequence[Detection], box: tuple[float, float, float, float] | None) -> Detection | None:
    if not faces or box is None:
        return None
    union, _ = overlaps(np.asarray(box, np.float32), np.array([face.box for face in faces], np.float32))
    return faces[int(union.argmax())] if union.max() >= CORRECT else None


def _false_faces(detector: Detector, photos: Sequence[LabelledPhoto], seed: int) -> float:
    side = int(2 * STORED_SIZE)
    total = 0
    for photo in photos:
        rng = _generator(photo, seed)
        total += len(detector.detect([np.asarray(background(prepare([photo]), side, rng))])[0])
    return total / max(1, len(photos))
