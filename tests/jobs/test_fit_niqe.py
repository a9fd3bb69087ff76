import io
import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from jobs.fit_niqe import command, rank
from jobs.training.faces import held_out
from operators.detect.align import template
from operators.quality.niqe import Niqe
from operators.quality.niqe_fit import fit
from pipeline.tar import write_shard

SIZE, PATCH = 128, 32


def textures(count: int) -> np.ndarray:
    """(count, SIZE, SIZE, 3) uint8 images with the 1 / f spectrum of natural ones."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None])
    noise = np.random.default_rng(0).standard_normal((count, SIZE, SIZE))
    luma = np.fft.ifft2(np.fft.fft2(noise) / np.maximum(frequency, 1 / SIZE)).real
    luma = 128 + 40 * luma / luma.std(axis=(1, 2), keepdims=True)
    return np.repeat(np.clip(luma, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def write_faces(path: Path, count: int) -> list[str]:
    """A shard of faces already on the template; returns their keys."""
    keys = [f"face{i:03d}" for i in range(count)]
    label = json.dumps({"landmarks5": template(SIZE).tolist()}).encode()
    members = []
    for key, image in zip(keys, textures(count), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        members += [(f"{key}.json", label), (f"{key}.png", buffer.getvalue())]
    write_shard(path, members)
    return keys


def test_fitting_from_a_shard_leaves_the_held_out_faces_out_and_writes_a_card(tmp_path: Path) -> None:
    keys = write_faces(tmp_path / "faces.tar", 64)
    out = tmp_path / "niqe.safetensors"
    arguments = ["--data", str(tmp_path / "faces.tar"), "--out", str(out), "--sharpness", "0.4"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    used = sum(not held_out(key) for key in keys)
    assert 0 < used < len(keys)
    card = out.with_suffix(".md").read_text()
    assert f"to {used} aligned faces" in card and f"on {len(keys) - used} held-out faces" in card
    assert Niqe.load(out).patch == PATCH


def test_ranking_repeats_and_finds_degraded_faces_worse() -> None:
    faces, niqe = textures(4), fit(textures(64), PATCH, sharpness=0.4)
    ranking = rank(niqe, faces)
    assert ranking == rank(niqe, faces)
    assert ranking.size == SIZE and ranking.means[0] < min(ranking.means[1:])
    assert 0 < ranking.srocc <= 1
