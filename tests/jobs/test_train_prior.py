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
from pipeline.shards import write_shard

# Eyes, nose tip and mouth corners of skimage.data.astronaut(), read off the picture.
LANDMARKS = [[206.0, 107.0], [243.0, 107.0], [226.0, 131.0], [210.0, 148.0], [243.0, 148.0]]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    encoded = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(encoded, "PNG")
    members = []
    for key in ("astronaut-0", "astronaut-1"):
        members += [(f"{key}.png", encoded.getvalue()), (f"{key}.json", json.dumps({"landmarks5": LANDMARKS}).encode())]
    path = tmp_path / "faces-000000.tar"
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
