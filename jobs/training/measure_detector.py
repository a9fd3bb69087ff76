"""How good a detector is on labelled photos it has not seen: recall, precision, landmark error, false faces."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.training.ageing import age
from jobs.training.faces import LabelledPhoto
from jobs.training.scenes import STORED_SIZE, background, prepare
from operators.detect.contract import Detection, Detector
from operators.detect.suppression import overlaps

CORRECT = 0.5
"""Least intersection over union with the label of a face that counts as found."""


def measure(detector: Detector, photos: Sequence[LabelledPhoto], seed: int) -> dict[str, float]:
    """Figures of merit, each photo as it is ("clean") and aged ("aged"), from draws of `seed` and the key alone.

    recall: share of labelled faces found. precision: share of detections in labelled photos that are the
    labelled face; a second, unlabelled face counts against it. landmark: mean distance of the five landmarks
    over the labelled eye distance, mean and 90th percentile over found faces. false_per_faceless: detections
    per picture made of what surrounds the faces.
    """
    labelled = [photo for photo in photos if photo.box is not None and photo.landmarks is not None]
    figures: dict[str, float] = {"faces": float(len(labelled))}
    for name in ("clean", "aged"):
        found, detections, errors = 0, 0, []
        for photo in labelled:
            pixels = photo.pixels if name == "clean" else _aged(photo, seed)
            faces = detector.detect([pixels])[0]
            detections += len(faces)
            face = _matching(faces, photo.box)
            if face is not None and photo.landmarks is not None:
                found += 1
                errors.append(landmark_error(face.landmarks, photo.landmarks))
        figures[f"recall_{name}"] = found / max(1, len(labelled))
        figures[f"precision_{name}"] = found / max(1, detections)
        figures[f"landmark_{name}"] = float(np.mean(errors)) if errors else float("nan")
        figures[f"landmark_p90_{name}"] = float(np.quantile(errors, 0.9)) if errors else float("nan")
    figures["false_per_faceless"] = _false_faces(detector, labelled, seed)
    return figures


def landmark_error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Mean distance of landmarks (5, 2) from the wanted ones, over the wanted distance of the eyes."""
    eyes = float(np.linalg.norm(wanted[1] - wanted[0]))
    return float(np.linalg.norm(found - wanted, axis=1).mean()) / max(eyes, 1e-6)


def _generator(photo: LabelledPhoto, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(photo.key.encode())))


def _aged(photo: LabelledPhoto, seed: int) -> NDArray[np.uint8]:
    assert photo.box is not None
    size = float(np.sqrt((photo.box[2] - photo.box[0]) * (photo.box[3] - photo.box[1])))
    return np.asarray(age(Image.fromarray(photo.pixels), size, _generator(photo, seed)))


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
