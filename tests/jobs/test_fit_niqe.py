import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from scipy.io import savemat

from jobs.fit_niqe import command
from jobs.training.niqe_classic import load_classic
from jobs.training.niqe_ranking import ladder, rank
from operators.detect.align import template
from operators.quality.niqe import Niqe
from operators.quality.niqe_fit import fit
from operators.training.split import held_out
from operators.training.weights import WeightsError
from pipeline.tar import write_shard

SIZE, PATCH = 128, 32


def textures(count: int) -> np.ndarray:
    """(count, SIZE, SIZE, 3) uint8 images with the 1 / f spectrum of natural ones."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None])
    noise = np.random.default_rng(0).standard_normal((count, SIZE, SIZE))
    luma = np.fft.ifft2(np.fft.fft2(noise) / np.maximum(frequency, 1 / SIZE)).real
    luma = 128 + 40 * luma / luma.std(axis=(1, 2), keepdims=True)
    return np.repeat(np.clip(luma, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def write_faces(path: Path, count: int, names: Sequence[str] = ()) -> list[str]:
    """A shard of faces already on the template; returns their keys."""
    keys = list(names or (f"face{i:03d}" for i in range(count)))[:count]
    label = json.dumps({"landmarks5": template(SIZE).tolist()}).encode()
    members = []
    for key, image in zip(keys, textures(count), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        members += [(f"{key}.json", label), (f"{key}.png", buffer.getvalue())]
    write_shard(path, members)
    return keys


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in (*arguments, "--patch", PATCH, "--sharpness", "0.4")])


def classic_file(path: Path) -> Path:
    """The arrays of a fit as the authors of NIQE wrote them."""
    niqe = fit(textures(64), PATCH, sharpness=0.4)
    savemat(path, {"mu_prisparam": niqe.mean[None], "cov_prisparam": niqe.covariance})
    return path


def test_fitting_from_a_shard_leaves_the_held_out_faces_out_and_writes_a_card(tmp_path: Path) -> None:
    keys = write_faces(tmp_path / "faces.tar", 64)
    out = tmp_path / "niqe.safetensors"
    result = run("--data", tmp_path / "faces.tar", "--out", out)
    assert result.exit_code == 0, result.output
    used = sum(not held_out(key) for key in keys)
    assert 0 < used < len(keys)
    card = out.with_suffix(".md").read_text()
    assert f"to {used} aligned faces" in card and f"on {len(keys) - used} held-out faces" in card
    assert card.count("| faces of 128 px | 32 px |") == 2 and "Other patch sizes" not in card
    assert Niqe.load(out).patch == PATCH


def test_comparing_ranks_other_patches_and_the_published_model(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces.tar", 64)
    out = tmp_path / "niqe.safetensors"
    classic = classic_file(tmp_path / "classic.mat")
    compared = ("--compare", 16, "--compare", PATCH, "--compare", 64)
    result = run("--data", tmp_path / "faces.tar", "--out", out, *compared, "--classic", classic)
    assert result.exit_code == 0, result.output
    assert "left out: faces of 128 px, patches of 64 px" in result.output  # 64 faces have too few of them
    assert Niqe.load(out).patch == PATCH  # what is compared is not what is written
    card = out.with_suffix(".md").read_text()
    for side in (128, 256):
        assert f"| faces of 128 px | 16 px | {side} px |" in card
        assert card.count(f"| faces of 128 px | {PATCH} px | {side} px |") == 1  # the one that is written
        assert f"| faces of 256 px | 16 px | {side} px |" in card
        assert f"| published, with 32 px patches | 32 px | {side} px |" in card
    assert "| as published | 96 px | 256 px |" in card
    assert "| as published | 96 px | 128 px |" not in card  # a single patch


def test_comparing_without_held_out_faces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faces.tar"
    write_faces(path, 64, [key for key in (f"face{i}" for i in range(200)) if not held_out(key)])
    result = run("--data", path, "--out", tmp_path / "niqe.safetensors", "--compare", 16)
    assert result.exit_code == 2
    assert "no held-out face to measure on" in result.output


def test_too_few_faces_are_refused(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces.tar", 3)
    result = run("--data", tmp_path / "faces.tar", "--out", tmp_path / "niqe.safetensors")
    assert result.exit_code == 2
    assert "--patch 32: " in result.output and "usable patches" in result.output


def test_ranking_repeats_and_finds_degraded_faces_worse() -> None:
    versions, niqe = ladder(textures(4)), fit(textures(64), PATCH, sharpness=0.4)
    ranking = rank(niqe, versions)
    assert ranking is not None and ranking == rank(niqe, ladder(textures(4)))
    assert ranking.size == SIZE and ranking.means[0] < min(ranking.means[1:])
    assert 0 < ranking.srocc <= 1
    assert ranking.clean_p95 >= ranking.means[0]


def test_faces_with_too_few_patches_have_no_ranking() -> None:
    niqe = fit(textures(64), PATCH, sharpness=0.4)
    assert rank(Niqe(niqe.mean, niqe.covariance, 96), ladder(textures(2))) is None


def test_the_published_model_is_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    path = classic_file(tmp_path / "classic.mat")
    niqe = load_classic(path)
    assert niqe.patch == 96
    np.savez(tmp_path / "classic.npz", mu_pris_param=niqe.mean[None], cov_pris_param=niqe.covariance)
    again = load_classic(tmp_path / "classic.npz", patch=32)
    assert again.patch == 32
    assert np.array_equal(again.mean, niqe.mean) and np.array_equal(again.covariance, niqe.covariance)


@pytest.mark.parametrize("name", ["other.mat", "text.mat", "text.npz"])
def test_a_file_without_the_published_model_is_refused_by_name(tmp_path: Path, name: str) -> None:
    savemat(tmp_path / "other.mat", {"something": np.zeros(3)})
    for text in ("text.mat", "text.npz"):
        (tmp_path / text).write_text("no arrays here")
    with pytest.raises(WeightsError, match=f"{name} does not hold"):
        load_classic(tmp_path / name)
