"""A small degraded collection with known originals: every portrait at every severity, and the odd cases."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.demonstration.photographs import (
    Photograph,
    cup_of_coffee,
    eileen_collins,
    grace_hopper,
    side_by_side,
)
from operators.degrade.classical import draw
from operators.detect.align import FFHQ_512, similarity
from operators.images import encode_png, to_grey
from pipeline.tar import write_shard

SHARD = "demo-000000.tar"

DOWNSAMPLING = {"mild": 4, "medium": 8, "severe": 8}
"""Eq. 13's r for each severity, at 512 px."""


@dataclass(frozen=True)
class Item:
    """One photo of the collection: the original, and what is left of it. severity: one of DOWNSAMPLING."""

    key: str
    severity: str
    original: Photograph
    degraded: NDArray[np.uint8]
    grey: bool = False


def collection(seed: int = 0) -> list[Item]:
    """Nine photos, a few hundred pixels a side; the same for the same seed."""
    collins, hopper = eileen_collins(), grace_hopper()
    items = [degrade(portrait, severity, seed) for severity in DOWNSAMPLING for portrait in (collins, hopper)]
    return [
        *items,
        degrade(side_by_side(collins, hopper), "medium", seed),
        degrade(hopper, "medium", seed, grey=True),
        degrade(cup_of_coffee(), "mild", seed),
    ]


def degrade(photograph: Photograph, severity: str, seed: int, *, grey: bool = False) -> Item:
    """Degrade a photograph by Eq. 13, at the scale of its smallest face."""
    original = photograph
    if grey:
        pixels = to_grey(photograph.pixels)
        original = Photograph(photograph.name, pixels, photograph.faces, photograph.credit)
    key = f"{photograph.name}-{severity}" + ("-grey" if grey else "")
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    side = min((face_side(face) for face in photograph.faces), default=256)
    damage = draw(severity, DOWNSAMPLING[severity], rng, size=side)
    degraded = damage.apply(original.pixels, rng)
    return Item(key, severity, original, to_grey(degraded) if grey else degraded, grey)


def face_side(landmarks: NDArray[np.float64]) -> int:
    """Side, in pixels of the photo, of the aligned square that holds the face with these landmarks."""
    matrix = similarity(landmarks, FFHQ_512)
    return round(512 / float(np.hypot(matrix[0, 0], matrix[1, 0])))


def write_collection(items: list[Item], folder: Path) -> Path:
    """Write the degraded photos as one shard into `folder`, each with a sidecar naming its source."""
    folder.mkdir(parents=True, exist_ok=True)
    members: list[tuple[str, bytes]] = []
    for item in items:
        members.append((f"{item.key}.png", encode_png(item.degraded, grey=item.grey)))
        members.append((f"{item.key}.txt", item.original.credit.encode()))
    path = folder / SHARD
    write_shard(path, members)
    return path
