"""`dr2e train detector` on a shard of a few painted portraits: it trains, resumes and writes weights that load."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.train_detector import command, from_origin, split
from jobs.training.faces import LabelledPhoto
from operators.detect.builtin import BuiltinDetector
from operators.training.split import held_out
from operators.training.weights import load_weights

BOX = [30, 25, 70, 75]
POINTS = [[42, 42], [58, 42], [50, 52], [44, 62], [56, 62]]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Twelve portraits, some of them held out."""
    path = tmp_path / "portraits.tar"
    keys = [f"face{number:03d}" for number in range(200)]
    keys = [key for key in keys if held_out(key)][:2] + [key for key in keys if not held_out(key)][:6]
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for key in keys:
            picture = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (110, 100, 3), dtype=np.uint8)).save(picture, "JPEG")
            label = json.dumps({"landmarks5": POINTS, "box": BOX}).encode()
            for name, data in ((f"{key}.jpg", picture.getvalue()), (f"{key}.json", label)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def run(shard: Path, out: Path, steps: int) -> str:
    arguments = ["--data", shard, "--out", out, "--steps", steps, "--landmark-steps", steps, "--batch", 2]
    arguments += ["--landmark-batch", 2, "--side", 64, "--device", "cpu"]
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_trains_resumes_and_writes_what_the_detector_loads(shard: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "6 faces to train on, 2 photos held out" in run(shard, out, 2)
    assert "resuming at step 2 of 3" in run(shard, out, 3)
    _, description = load_weights(out / "detector.safetensors", "detector")
    assert description["training"]["steps"] == {"scan": 3, "landmarks": 3}
    detector = BuiltinDetector.load(str(out / "detector.safetensors"))
    assert len(detector.detect([np.zeros((64, 64, 3), np.uint8)])) == 1
    assert json.loads((out / "detector.figures.json").read_text())["faces"] == 2


def test_a_resumed_run_equals_an_uninterrupted_one(shard: Path, tmp_path: Path) -> None:
    run(shard, tmp_path / "whole", 4)
    # The cosine of the learning rate ends at --steps, so the interrupted run must aim at the same end.
    first = ["--minutes", "1e-9"]
    arguments = ["--data", shard, "--out", tmp_path / "parts", "--steps", 4, "--landmark-steps", 4, "--batch", 2]
    arguments += ["--landmark-batch", 2, "--side", 64, "--device", "cpu", *first]
    CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "resuming at step 1 of 4" in run(shard, tmp_path / "parts", 4)
    whole, _ = load_weights(tmp_path / "whole" / "detector.safetensors")
    parts, _ = load_weights(tmp_path / "parts" / "detector.safetensors")
    for name, value in whole.items():
        np.testing.assert_array_equal(value.numpy(), parts[name].numpy(), err_msg=name)


def test_the_side_must_suit_the_network(shard: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(shard), "--out", str(tmp_path), "--side", "100"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "multiple of 32" in result.output


def test_held_out_photos_are_never_trained_on() -> None:
    keys = [f"face{number:03d}" for number in range(100)]
    box = (30.0, 25.0, 70.0, 75.0)
    photos = [
        LabelledPhoto(key, np.full((90, 90, 3), held_out(key) * 255, np.uint8), np.array(POINTS, np.float32), box)
        for key in keys
    ]
    portraits, tests = split(photos)
    assert len(portraits) + len(tests) == len(keys)
    assert all(held_out(photo.key) for photo in tests)
    assert all(np.asarray(portrait.levels[0]).max() == 0 for portrait in portraits)


def test_a_box_beyond_its_photo_is_not_trained_on() -> None:
    key = next(f"face{number}" for number in range(100) if not held_out(f"face{number}"))
    pixels, points = np.zeros((90, 90, 3), np.uint8), np.array(POINTS, np.float32)
    photos = [
        LabelledPhoto(key, pixels, points, box) for box in ((30.0, 25.0, 70.0, 75.0), (-60.0, -60.0, 150.0, 150.0))
    ]
    portraits, _ = split(photos)
    assert len(portraits) == 1


def test_labels_that_count_pixels_from_one_are_moved_to_zero() -> None:
    points, box = np.array(POINTS, np.float32), (30.0, 25.0, 70.0, 75.0)
    photos = [LabelledPhoto("a", np.zeros((9, 9, 3), np.uint8), points, box)]
    photos += [LabelledPhoto("b", photos[0].pixels, None, None)]
    moved, bare = from_origin(photos, 1.0)
    np.testing.assert_array_equal(moved.landmarks, points - 1)
    assert moved.box == (29.0, 24.0, 69.0, 74.0)
    assert bare.landmarks is None
    assert bare.box is None
