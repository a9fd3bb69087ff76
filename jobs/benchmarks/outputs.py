"""Outputs to measure storage with: made-up photos, committed as a run commits them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from operators.detect.align import align, template
from operators.images import encode_png
from pipeline.commit import CommitContext, commit_unit
from pipeline.output import Output
from pipeline.records import Face, Photo
from pipeline.storage import Location
from pipeline.units import unit_id

PARTS = 10
"""Units of a shard."""

_SIDE = 64  # pixels of a face
_STARTED = "2026-01-01T00:00:00+00:00"


def make_output(location: Location, units: int, photos: int, photo_bytes: int) -> None:
    """Commit `units` units of `photos` photos each below `location`, and describe them in run.json.

    The first photo of a unit is small and has a face; the others have none and are noise of `photo_bytes` bytes
    under the name of an image, which nothing needs to decode. So nearly every byte of the output is a result that
    the manifest has a checksum of: more than in a run's output, whose restored photos have the original beside them.
    """
    Output(location).start({"config": {}, "models": {}, "versions": {}})
    context = CommitContext(seed=0, models={}, versions={})

    def commit(number: int) -> None:
        shard, part = divmod(number, PARTS)
        parts = min(PARTS, units - shard * PARTS)
        commit_unit(location, _unit(f"shard-{shard:05d}.tar", part, parts, photos, photo_bytes), context)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(commit, range(units)))


def _unit(shard: str, part: int, parts: int, photos: int, photo_bytes: int) -> list[Photo]:
    rng = np.random.default_rng([part, *shard.encode()])
    made = [_restored(f"{part:04d}-0000", rng)]
    for number in range(1, photos):
        key = f"{part:04d}-{number:04d}"
        made.append(Photo("", 0, key, f"{key}.jpg", rng.bytes(photo_bytes), status="no_face"))
    for index, photo in enumerate(made):
        photo.unit, photo.index, photo.unit_size = unit_id(shard, part, parts), index, photos
        photo.shard, photo.part, photo.parts, photo.started = shard, part, parts, _STARTED
    return made


def _restored(key: str, rng: np.random.Generator) -> Photo:
    pixels = rng.integers(0, 256, (100, 100, 3), np.uint8)
    landmarks = (template(_SIDE) + 16).astype(np.float32)
    crop, matrix = align(pixels, landmarks, _SIDE)
    face = Face((16, 16, 80, 80), 0.9, landmarks, matrix, crop, crop, crop, "restored", 4, 280, 9.0, 6.0, 5.0)
    return Photo("", 0, key, f"{key}.png", encode_png(pixels), width=100, height=100, status="restored", faces=[face])
