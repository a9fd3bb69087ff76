"""What a stage does when a photo, or the machine, goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from operators.detect.contract import Detection
from pipeline.blocks import Failure, failed_block, failure_of, from_block, to_block
from pipeline.config import build
from pipeline.records import Face, Photo
from pipeline.stages import Detect, Enhance, Restore, Stage, finite, one_line, resized, surest


class Halving(Stage):
    """Cannot stand photos called "bad", and blames the machine for those called "disk"."""

    name = "halve"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def work(self, photos: Sequence[Photo]) -> None:
        self.calls.append([photo.key for photo in photos])
        for photo in photos:
            if photo.key == "bad":
                raise ZeroDivisionError("cannot be\nhalved")
            if photo.key == "disk":
                raise OSError("no space left")
            photo.width = 1


def unit(*keys: str) -> list[Photo]:
    return [Photo("u", index, key, f"{key}.jpg", b"x", unit_size=len(keys)) for index, key in enumerate(keys)]


def test_a_stage_sees_a_unit_at_once_and_no_photo_that_is_decided():
    photos = unit("a", "b", "c")
    photos[1].reject("image.empty", "the file is empty")
    stage = Halving()
    after = from_block(stage(to_block("u", photos)))
    assert stage.calls == [["a", "c"]]
    assert [photo.width for photo in after] == [1, 0, 1]
    assert after[1].error == "image.empty"


def test_a_photo_that_raises_is_rejected_alone():
    after = from_block(Halving()(to_block("u", unit("a", "bad", "c"))))
    assert [photo.status for photo in after] == ["pending", "rejected", "pending"]
    assert [photo.width for photo in after] == [1, 0, 1]
    assert (after[1].error, after[1].message) == ("halve.failed", "ZeroDivisionError: cannot be halved")


def test_a_machine_that_fails_fails_the_unit_and_rejects_nobody():
    assert failure_of(Halving()(to_block("u", unit("a", "disk")))) == Failure("u", "halve: OSError: no space left")
    assert failure_of(Halving()(to_block("u", unit("bad", "disk")))) == Failure("u", "halve: OSError: no space left")


def test_a_failed_unit_passes_through_untouched():
    stage, block = Halving(), failed_block("u", "detect: MemoryError")
    assert stage(block).equals(block)
    assert stage.calls == []


def test_time_is_shared_by_the_number_of_faces():
    photos = unit("a", "b")
    photos[1].faces = [Face((0.0, 0.0, 1.0, 1.0), 1.0, np.zeros((5, 2), np.float32))] * 3
    after = from_block(Halving()(to_block("u", photos)))
    assert after[1].seconds["halve"] == pytest.approx(3 * after[0].seconds["halve"])


def faces(count: int, seed: int) -> list[Photo]:
    """Photos with a soft, noisy crop each, as the detector would hand them on."""
    rng = np.random.default_rng(seed)
    photos = unit(*(f"{seed}-{i}" for i in range(count)))
    for photo in photos:
        soft = ndimage.gaussian_filter(rng.standard_normal((128, 128, 3)), (4, 4, 0))
        crop = np.clip(128 + 40 * soft / soft.std() + rng.normal(0, 12, soft.shape), 0, 255).astype(np.uint8)
        photo.faces = [Face((0.0, 0.0, 1.0, 1.0), 1.0, np.zeros((5, 2), np.float32), crop=crop)]
    return photos


def test_two_units_at_once_come_out_as_one_after_the_other():
    stage = Restore(build({"input": "in", "output": "out"}), face_size=128, device="cpu", threads=1)
    blocks = [to_block(f"u{seed}", faces(count, seed)) for seed, count in ((0, 3), (1, 2))]
    one_by_one = [from_block(stage(block)) for block in blocks]
    with ThreadPoolExecutor(2) as pool:
        together = [from_block(block) for block in pool.map(stage, blocks)]
    for ours, theirs in zip(together, one_by_one, strict=True):
        for photo, other in zip(ours, theirs, strict=True):
            (face,), (expected,) = photo.faces, other.faces
            assert face.status == "restored" and np.array_equal(face.image, expected.image)
            assert (face.n, face.tau, face.candidates) == (expected.n, expected.tau, expected.candidates)


def test_every_stage_shows_that_it_gets_on(monkeypatch):
    """A beat per photo, per evaluation of the network and per batch: what a watchdog may take as a pulse."""
    beats: list[None] = []
    monkeypatch.setattr("pipeline.stages.beat", lambda: beats.append(None))
    monkeypatch.setattr("pipeline.stages.pulse", lambda: lambda: beats.append(None))
    fixed = {"n": 2, "tau": 20}
    batches = {"restore": {"batch": 1}, "enhance": {"batch": 1}}
    config = build({"input": "in", "output": "out", "restore": fixed, "resources": batches})
    photos = faces(3, seed=0)
    restore = Restore(config, face_size=128, device="cpu", threads=1)
    for stage, least in [
        (Detect(config, 128, "cpu", 1), 3),
        (restore, lambda: restore.remover.engine.evaluations),
        (Enhance(config, 128, "cpu", 1), 3),
    ]:
        beats.clear()
        stage.work(photos if stage.name != "detect" else unit("a", "b", "c"))
        assert len(beats) >= (least if isinstance(least, int) else least()) >= 3, stage.name


def test_an_actor_restores_two_units_at_once_unless_its_judge_bears_one():
    base = {"input": "in", "output": "out"}
    assert Restore.units(build(base)) == 2 and Enhance.units(build(base)) == 1
    assert Restore.units(build({**base, "restore": {"niqe": "pyiqa:piqe"}})) == 1


def test_of_many_faces_the_surest_are_kept_in_their_order():
    found = [
        Detection((float(i), 0.0, 1.0, 1.0), score, np.zeros((5, 2), np.float32))
        for i, score in enumerate([0.6, 0.9, 0.7])
    ]
    assert [detection.score for detection in surest(found, 2)] == [0.9, 0.7]
    assert surest(found, 9) == found


def test_small_helpers():
    image = np.full((8, 8, 3), 7, np.uint8)
    assert resized(image, 8) is image
    assert resized(image, 4).shape == (4, 4, 3)
    assert (finite(1.5), finite(float("inf")), finite(None)) == (1.5, None, None)
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(ValueError()) == "ValueError"
