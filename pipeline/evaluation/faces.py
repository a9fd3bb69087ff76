"""The truth in a photo, and what Eq. 13 leaves of it: the same pixels wherever they are made."""

from __future__ import annotations

import hashlib

import numpy as np

from operators.degrade.classical import draw
from operators.degrade.steps import resize
from operators.images import to_grey
from pipeline.evaluation.settings import CLEAN, Setting
from pipeline.labels import NO_FACE
from pipeline.records import Pixels

MAX_ENLARGEMENT = 1.15
"""A face enlarged more than this from its photo is not sharp, and no truth."""

TOO_SMALL = "face.too_small"
NO_TRUTH = frozenset({NO_FACE, TOO_SMALL})
"""Why a photo without a fault is left out; every other code says that something is wrong with it."""


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
