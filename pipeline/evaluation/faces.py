"""The truth in a photo, and what Eq. 13 leaves of it: the same pixels wherever they are made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from operators.degrade.classical import draw
from operators.degrade.steps import resize
from operators.images import to_grey
from pipeline.evaluation.settings import CLEAN, Setting
from pipeline.records import Pixels

MAX_ENLARGEMENT = 1.15
"""A face enlarged more than this from its photo is not sharp, and no truth."""

NO_FACE, TOO_SMALL = "face.none", "face.too_small"
NO_TRUTH = frozenset({NO_FACE, TOO_SMALL})
"""Why a photo without a fault is left out; every other code says that something is wrong with it."""


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


def degraded(truth: Pixels, setting: Setting, *, seed: int, key: str, grey: bool) -> Pixels:
    """`truth` degraded by `setting` and enlarged to its size again, (S, S, 3) uint8.

    Parameters and noise depend on (seed, key, setting) alone; CLEAN leaves the truth as it is. grey: of a photo
    without colour nothing coloured comes out.
    """
    if setting == CLEAN:
        return truth
    digest = hashlib.sha256(f"{seed}\0{key}\0{setting.name}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest, "<u4").tolist())
    image = draw(setting.severity, setting.r, rng, len(truth)).apply(truth, rng)
    return to_grey(image) if grey else image


def at_size(pixels: Pixels, side: int) -> Pixels:
    """(S, S, 3) uint8 at another size: bicubic, antialiased where it shrinks; itself when it has that size."""
    return resize(pixels, (side, side))
