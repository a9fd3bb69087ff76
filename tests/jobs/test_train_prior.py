"""``dr2e train prior`` on a shard of one real photograph: the job runs, resumes, and its file is a prior."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import skimage
from click.testing import CliRunner
from PIL import Image

from jobs.train_prior import command
from operators.dr2.checkpoints import load_prior
from operators.training.split import held_out
from pipeline.shards import write_shard

# Eyes, nose tip and mouth corners of skimage.data.astronaut(), read off the picture.
LANDMARKS = [[206.0, 107.0], [243.0, 107.0], [226.0, 131.0], [210.0, 148.0], [243.0, 148.0]]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write(tmp_path / "faces-000000.tar", ["astronaut-0", "astronaut-1"])


def write(path: Path, keys: list[str]) -> Path:
    """A shard that holds the one face under each of these keys."""
    encoded = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(encoded, "PNG")
    members = []
    for key in keys:
        members += [(f"{key}.png", encoded.getvalue()), (f"{key}.json", json.dumps({"landmarks5": LANDMARKS}).encode())]
    write_shard(path, members)
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_train_resume_and_load(shard: Path, tmp_path: Path) -> None:
    out = tmp_path / "prior"
    settings = ["--data", str(shard), "--out", str(out), "--size", "32", "--channels", "16,32", "--batch", "2"]
    assert "after 2 steps" in run(*settings, "--steps", "2")
    resumed = run(*settings, "--steps", "4")
    assert "resuming at step 2 of 4" in resumed
    assert "after 4 steps" in resumed
    prior = load_prior(str(out / "prior.safetensors"))
    assert (prior.size, prior.spec.prediction, prior.spec.max_timestep) == (32, "v_prediction", 700)


def test_shards_without_landmarks_are_refused(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.new("RGB", (64, 64)).save(encoded, "PNG")
    write_shard(tmp_path / "plain.tar", [("photo.png", encoded.getvalue())])
    result = CliRunner().invoke(command, ["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert "landmarks5" in str(result.exception)


def test_finished_training_looks_for_memorised_faces(tmp_path: Path) -> None:
    keys = [f"face{i}" for i in range(200)]
    aside = [key for key in keys if held_out(key)][:3]
    shard = write(tmp_path / "faces.tar", [*[key for key in keys if not held_out(key)][:3], *aside])
    out = tmp_path / "prior"
    settings = ["--data", str(shard), "--out", str(out), "--size", "32", "--channels", "16,32", "--batch", "2"]
    assert "advantage of training" not in run(*settings, "--steps", "1", "--measure-faces", "0")
    again = run(*settings, "--steps", "1", "--measure-faces", "2")
    assert "resuming at step 1 of 1" in again
    assert "| held-out faces | 0.000 | 0.000 | 0.000 | 0.000 |" in again  # they all show the same picture
    assert json.loads((out / "prior.memorisation.json").read_text())["faces"] == 2
    assert (out / "prior.neighbours.png").exists()


def test_held_out_faces_alone_are_refused(tmp_path: Path) -> None:
    shard = write(tmp_path / "faces.tar", [key for key in map(str, range(100)) if held_out(key)][:2])
    result = CliRunner().invoke(command, ["--data", str(shard), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "no face to train on: every key falls into the held-out tenth" in result.output
