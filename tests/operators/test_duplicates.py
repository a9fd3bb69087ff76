"""Near-duplicates: the hash holds through what copies go through, and the index finds what comparing all would."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut

from operators.detect.align import align
from operators.pairs import duplicates
from operators.pairs.duplicates import BITS, LARGEST, distances, mirrored, near_duplicates, perceptual_hash

SIZE = 128
LIMIT = 5
LANDMARKS = np.array([(203, 101), (247, 103.5), (224, 124), (203.5, 140), (244.5, 141.5)], np.float32)


def hashed(pixels: np.ndarray) -> np.ndarray:
    return np.array([perceptual_hash(pixels)], np.uint64)


def faces() -> list[np.ndarray]:
    """A person and eight smooth textures, (SIZE, SIZE, 3)."""
    person, _ = align(astronaut(), LANDMARKS, SIZE)
    soft = gaussian_filter(np.random.default_rng(0).standard_normal((8, SIZE, SIZE, 3)), (0, 8, 8, 0))
    return [person, *np.clip(128 + 40 * soft / soft.std(), 0, 255).astype(np.uint8)]


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=quality)
    return np.asarray(Image.open(out).convert("RGB"))


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def test_a_copy_is_near_whatever_it_went_through() -> None:
    for face in faces():
        own = hashed(face)
        brighter = np.clip(face * 1.15 + 5, 0, 255).astype(np.uint8)
        copies = [jpeg(face, 40), resized(face, round(1.02 * SIZE)), resized(face, 77), brighter, face[:, ::-1]]
        copies.append(jpeg(resized(brighter, round(0.98 * SIZE)), 40)[:, ::-1])
        assert all(distances(own, hashed(copy))[0] <= LIMIT for copy in copies)


def test_different_faces_are_far_apart() -> None:
    hashes = np.concatenate([hashed(face) for face in faces()])
    apart = distances(hashes[:, None], hashes)
    assert np.array_equal(apart, apart.T) and not apart.diagonal().any()
    assert apart[~np.eye(len(hashes), dtype=bool)].min() > 2 * LIMIT


def test_a_mirror_image_has_the_mirrored_hash() -> None:
    for face in faces():
        own, other = hashed(face), hashed(face[:, ::-1])
        assert np.bitwise_count(mirrored(own) ^ other)[0] <= 1  # rounding, where a frequency is next to its threshold
        assert np.array_equal(mirrored(mirrored(own)), own)


def test_an_image_without_anything_in_it_has_a_hash() -> None:
    assert 0 <= perceptual_hash(np.full((40, 40, 3), 90, np.uint8)) < 2**BITS
    assert perceptual_hash(np.full((40, 40, 3), 90, np.uint8)) == perceptual_hash(np.full((64, 64, 3), 90, np.uint8))


def planted(limit: int, seed: int) -> np.ndarray:
    """150 random hashes and as many about as far from one that is there as the limit, some of them mirrored."""
    rng = np.random.default_rng(seed)
    hashes = list(rng.integers(0, 2**BITS, 150, np.uint64))
    for _ in range(150):
        near = hashes[rng.integers(len(hashes))]
        for bit in rng.integers(0, BITS, rng.integers(0, limit + 4)):
            near ^= np.uint64(1) << np.uint64(bit)
        hashes.insert(rng.integers(len(hashes)), mirrored(near) if rng.random() < 0.3 else near)
    return np.array(hashes, np.uint64)


def by_comparing_all(hashes: np.ndarray, limit: int, kept: np.ndarray) -> np.ndarray:
    first, keeps = np.full(len(hashes), -1), list(np.flatnonzero(kept))
    for place in np.flatnonzero(~kept):
        near = [other for other in keeps if distances(hashes[place], hashes[other]) <= limit]
        if near:
            first[place] = min(near)
        else:
            keeps.append(place)
    return first


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 8, LARGEST])
def test_what_is_found_is_what_comparing_all_finds(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_CHUNK", 37)  # several chunks, runs that join, and pairs in parts
    monkeypatch.setattr(duplicates, "_CANDIDATES", 50)
    hashes = planted(limit, seed=limit)
    some = np.random.default_rng(1).random(len(hashes)) < 0.2
    for kept in (np.zeros(len(hashes), bool), some):
        found = near_duplicates(hashes, limit, kept)
        assert np.array_equal(found, by_comparing_all(hashes, limit, kept))
        assert (found >= 0).sum() > 20 and not (found[kept] >= 0).any()
    assert np.array_equal(near_duplicates(hashes, limit), near_duplicates(hashes, limit, np.zeros(len(hashes), bool)))


def test_a_decision_that_was_broken_off_ends_the_same() -> None:
    hashes = planted(LIMIT, seed=3)
    whole = near_duplicates(hashes, LIMIT)
    rng = np.random.default_rng(4)
    for _ in range(5):
        decided = rng.random(len(hashes)) < 0.5
        left = ~decided | (whole < 0)  # the decided near-duplicates are gone
        again = near_duplicates(hashes[left], LIMIT, (decided & (whole < 0))[left])
        places = np.flatnonzero(left)
        named = np.where(again < 0, -1, places[again])
        assert np.array_equal(named, whole[left])


def test_many_copies_of_one_face_are_one() -> None:
    found = near_duplicates(np.full(20_000, 12345, np.uint64), LIMIT)
    assert found[0] == -1 and not found[1:].any()
    assert len(near_duplicates(np.zeros(0, np.uint64), LIMIT)) == 0


def test_a_limit_out_of_range_is_refused() -> None:
    for limit in (-1, LARGEST + 1):
        with pytest.raises(ValueError, match="from 0 to 16"):
            near_duplicates(np.zeros(1, np.uint64), limit)
