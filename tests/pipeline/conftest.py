"""A unit of finished photos, as the stages would hand it to the sink."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from operators.detect.align import align, template
from operators.images import encode_png
from pipeline.members import CommitContext
from pipeline.records import Face, Photo

SIDE = 64  # of the aligned crop; the enhancer doubles it


@pytest.fixture
def context() -> CommitContext:
    return CommitContext(seed=7, models={"prior": "tiny abc123"}, versions={"dr2e": "0.1.0"})


@pytest.fixture
def make_unit() -> Callable[..., list[Photo]]:
    return make_photos


def make_photos(unit: str = "s-12345678-0000-of-0001", part: int = 0, parts: int = 1) -> list[Photo]:
    """Four photos: two faces, one of them kept; no face; rejected by a stage; rejected by the reader."""
    photos = [
        _photo(f"{part}-two", 2),
        _photo(f"{part}-none", 0),
        _photo(f"{part}-bad", 0),
        Photo("", 0, f"{part}-unread", "", b"", [(f"{part}-unread.txt", b"alone")]),
    ]
    photos[0].faces[1].status, photos[0].faces[1].n, photos[0].faces[1].tau = "kept", None, None
    photos[2].reject("image.truncated", "it ends early")
    photos[3].reject("sample.no_image", "no member is an image")
    for index, photo in enumerate(photos):
        photo.unit, photo.index, photo.unit_size = unit, index, len(photos)
        photo.shard, photo.shard_size, photo.shard_etag = "s.tar", 1234, "tag"
        photo.part, photo.parts, photo.started = part, parts, "2026-01-01T00:00:00+00:00"
        photo.spend("detect", 0.5)
    return photos


def _photo(key: str, faces: int) -> Photo:
    rng = np.random.default_rng(len(key))
    pixels = rng.integers(0, 256, (100, 160, 3), np.uint8)
    photo = Photo("", 0, key, f"{key}.png", encode_png(pixels), [(f"{key}.txt", b"caption")], width=160, height=100)
    for number in range(faces):
        # Faces stand beside each other: the template, shrunk and moved to the right.
        landmarks = (template(SIDE) + np.array([80.0 * number + 8, 18.0])).astype(np.float32)
        crop, matrix = align(pixels, landmarks, SIDE)
        image = np.full((2 * SIDE, 2 * SIDE, 3), 40 * number + 60, np.uint8)
        face = Face((80.0 * number, 10.0, 80.0 * number + 70, 90.0), 0.9, landmarks, matrix, crop, crop // 2, image)
        face.status, face.n, face.tau, face.evaluations = "restored", 4, 280, 18
        face.niqe_in, face.niqe_dr2, face.niqe_out = 9.0, 6.0, 5.0 + number
        face.candidates = [{"n": 4, "tau": 280, "niqe": float("inf")}]
        photo.faces.append(face)
    photo.status = "restored" if faces else "no_face"
    return photo
