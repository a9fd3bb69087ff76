"""The demo's collection: deterministic, graded, and readable as a shard."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from jobs.demonstration.collection import collection, face_side, write_collection
from jobs.demonstration.measure import compare, table
from jobs.demonstration.photographs import eileen_collins, grace_hopper, side_by_side
from operators.detect.align import FFHQ_512
from operators.images import decode
from operators.quality.niqe import FEATURES, Niqe
from pipeline.shards import index_shard, read_samples


@pytest.fixture(scope="module")
def items():
    return collection()


@pytest.fixture(scope="module")
def niqe():
    return Niqe(np.zeros(FEATURES), np.eye(FEATURES), 32)


def test_the_same_seed_gives_the_same_collection(items):
    again = collection()
    assert [item.key for item in again] == [item.key for item in items]
    for item, other in zip(items, again, strict=True):
        assert zlib.crc32(item.degraded.tobytes()) == zlib.crc32(other.degraded.tobytes())


def test_another_seed_gives_other_damage(items):
    assert not np.array_equal(collection(seed=1)[0].degraded, items[0].degraded)


def test_it_holds_every_case(items):
    assert {item.severity for item in items} == {"mild", "medium", "severe"}
    assert sorted({len(item.original.faces) for item in items}) == [0, 1, 2]
    (grey,) = [item for item in items if item.grey]
    assert np.array_equal(grey.degraded[..., 0], grey.degraded[..., 2])


def test_more_severe_is_further_from_the_original(items, niqe):
    portraits = [item for item in items if len(item.original.faces) == 1 and not item.grey]
    rows = {row.severity: row for row in compare(portraits, {i.key: i.degraded for i in portraits}, niqe)}
    assert rows["mild"].before.psnr > rows["medium"].before.psnr > rows["severe"].before.psnr
    assert rows["mild"].before.ssim > rows["medium"].before.ssim > rows["severe"].before.ssim


def test_a_perfect_restoration_is_measured_as_one(items, niqe):
    rows = compare(items[:1], {items[0].key: items[0].original.pixels}, niqe)
    assert rows[0].after.psnr == float("inf")
    assert rows[0].after.ssim == pytest.approx(1)
    assert rows[0].before.psnr < 40
    assert f"{rows[0].before.ssim:.3f} -> 1.000" in table(rows)


def test_the_marks_are_on_the_faces():
    """An upright, frontal face: the template's sides scale to what the marks say."""
    for portrait, side in ((eileen_collins(), (140, 200)), (grace_hopper(), (300, 400))):
        (marks,) = portrait.faces
        assert side[0] < face_side(marks) < side[1]
        assert np.abs(marks[0] - marks[1])[1] < 5
    assert face_side(FFHQ_512) == 512


def test_side_by_side_moves_the_marks_with_the_face():
    left, right = eileen_collins(), grace_hopper()
    both = side_by_side(left, right)
    x, y = both.faces[1][2].round().astype(int)
    inner_x, inner_y = right.faces[0][2].round().astype(int)
    assert np.array_equal(both.pixels[y, x], right.pixels[inner_y, inner_x])


def test_the_shard_reads_back(items, tmp_path: Path):
    path = write_collection(items, tmp_path / "input")
    assert index_shard(path).problems == []
    samples = {sample.key: sample for sample in read_samples(path)}
    assert list(samples) == [item.key for item in items]
    for item in items:
        picture = decode(samples[item.key].image[1])
        assert np.array_equal(picture.pixels, item.degraded)
        assert picture.grey == item.grey
        assert dict(samples[item.key].members)[f"{item.key}.txt"].decode() == item.original.credit
