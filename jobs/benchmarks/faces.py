"""Faces to measure speed on: public-domain portraits, degraded as differently as an archive's are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from jobs.demonstration.photographs import eileen_collins, grace_hopper
from operators.degrade.classical import DOWNSAMPLING, SEVERITIES, draw
from operators.detect.align import align


def mixed_faces(count: int, size: int) -> list[NDArray[np.uint8]]:
    """`count` aligned faces, (size, size, 3) uint8: two people, as they are and at Eq. 13's nine settings, in turns."""
    return [face for face, _ in with_truth(count, size)]


def with_truth(count: int, size: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Those faces, each beside what it was before it was degraded."""
    sharp = [
        align(photo.pixels, photo.faces[0].astype(np.float32), size)[0] for photo in (eileen_collins(), grace_hopper())
    ]

    def versions() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        settings = [None, *((severity, r) for severity in SEVERITIES for r in DOWNSAMPLING)]
        for number, (setting, face) in enumerate((setting, face) for setting in cycle(settings) for face in sharp):
            rng = np.random.default_rng(number)
            yield (face if setting is None else draw(*setting, rng, size).apply(face, rng)), face

    return list(islice(versions(), count))
