"""Where the face of a good photo is: as its sample's JSON says, or the surest one that is found."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from operators.detect.contract import Detector
from operators.images import Picture
from pipeline.records import Photo
from pipeline.stages import surest

NO_FACE = "face.none"


class LabelError(ValueError):
    """A sample's JSON is not what it should be; one line naming the member."""


def labelled_landmarks(sidecars: Iterable[tuple[str, bytes]]) -> NDArray[np.float32] | None:
    """``landmarks5`` of the first JSON among a sample's members, (5, 2) pixels; None where nobody labelled.

    Raises LabelError when the JSON or its landmarks are broken.
    """
    for name, data in sidecars:
        if name.lower().endswith(".json"):
            try:
                landmarks = json.loads(data).get("landmarks5")
                points = None if landmarks is None else np.asarray(landmarks, np.float32).reshape(5, 2)
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                reason = " ".join(str(error).split())
                raise LabelError(f"{name}: landmarks5 must be five x, y pairs ({reason})") from None
            return points
    return None


def the_face(photo: Photo, picture: Picture, detector: Detector) -> tuple[NDArray[np.float32], float] | None:
    """Landmarks (5, 2) of the labelled face, or else of the surest one that is found, and how sure it is; None, and the
    photo rejected, where there is none. Raises LabelError."""
    labelled = labelled_landmarks(photo.sidecars)
    if labelled is not None:
        return labelled, 1.0
    (detections,) = detector.detect([picture.pixels])
    if not detections:
        photo.reject(NO_FACE, "no face is labelled and none was found")
        return None
    (found,) = surest(detections, 1)
    return found.landmarks, found.score
