"""Training images for the landmark network: one face, about where the scan would centre it, aged or degraded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.training.ageing import ruin
from jobs.training.scenes import Canvas, Placement, Portrait
from operators.detect.landmarks import CLOSE_UP, FACE_SIZE

SHIFT, ZOOM, TURN = 0.05, 0.1, 0.15
"""Spread of the scan's errors: middle in face sizes, log of the size, and a head's turn in radians."""


TURNED, TURNED_WEIGHT = 0.2, 3
"""A head is turned when its nose is nearer to an eye than this share of their distance, or beyond it. Turned heads
are one in eight of the portraits, have the largest errors, and are drawn so many times as often as others."""


def sideways(landmarks: NDArray[np.floating]) -> float:
    """Where the nose of landmarks (5, 2) is along the line of the eyes: 0 below the left eye, 1 below the right.

    About a half in a face seen from the front, below 0 or above 1 in a profile.
    """
    across = (landmarks[1] - landmarks[0]).astype(np.float64)
    return float((landmarks[2] - landmarks[0]) @ across / max(float(across @ across), 1e-6))


def weighted(portraits: Sequence[Portrait]) -> list[Portrait]:
    """The portraits, turned heads `TURNED_WEIGHT` times: to draw from evenly."""
    return [
        portrait
        for portrait in portraits
        for _ in range(1 if TURNED <= sideways(portrait.landmarks) <= 1 - TURNED else TURNED_WEIGHT)
    ]


def close_up(portraits: Sequence[Portrait], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(CLOSE_UP, CLOSE_UP, 3) uint8 and its face's landmarks (5, 2), pixel centres at integers.

    Half of the faces have a neighbour behind them and some have one in front, as in a group photograph.
    """
    canvas = Canvas(Image.new("RGB", (CLOSE_UP, CLOSE_UP), tuple(rng.integers(0, 256, 3).tolist())))
    middle = (CLOSE_UP / 2 + rng.normal(0, SHIFT, 2) * FACE_SIZE).tolist()
    around, before = rng.random() < 0.5, rng.random() < 0.12
    if around:
        away = rng.choice([-1.0, 1.0], 2) * rng.uniform(0.5, 1.4, 2) * FACE_SIZE
        canvas.paste(_somebody(portraits, middle[0] + away[0], middle[1] + away[1], rng), rng)
    canvas.paste(_somebody(portraits, middle[0], middle[1], rng, cut_out=around), rng)
    face = len(canvas.landmarks) - 1
    if before:
        aside = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.2) * FACE_SIZE
        below = rng.uniform(0.9, 1.4) * FACE_SIZE
        canvas.paste(_somebody(portraits, middle[0] + aside, middle[1] + below, rng), rng)
    pixels = np.asarray(ruin(canvas.image, FACE_SIZE, rng))
    return pixels, (canvas.landmarks[face] - 0.5).astype(np.float32)


def _somebody(
    portraits: Sequence[Portrait], x: float, y: float, rng: np.random.Generator, *, cut_out: bool = True
) -> Placement:
    return Placement(
        portrait=portraits[int(rng.integers(len(portraits)))],
        size=FACE_SIZE * float(np.exp(rng.normal(0, ZOOM))),
        middle=(x, y),
        angle=float(rng.normal(0, TURN)),
        mirror=bool(rng.random() < 0.5),
        cut_out=cut_out,
    )
