"""Memorised faces are found, and a model that memorised nothing is not accused."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from jobs.train_prior import small_unet
from jobs.training.memorisation import SETTINGS, Faces, degraded, nearness, report, table
from jobs.training.nearest import distances, expected_nearest
from operators.dr2.prior import Prior, PriorSpec
from operators.dr2.schedule import Schedule

SIZE = 32


def blobs(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """(count, size, size, 3) uint8: smooth coloured blobs, every one different."""
    noise = np.random.default_rng(seed).normal(0, 1, (count, size, size, 3))
    soft = ndimage.gaussian_filter(noise, (0, size / 16, size / 16, 0), mode="reflect")
    return np.clip(128 + soft / soft.std() * 30, 0, 255).astype(np.uint8)


def prior(max_timestep: int = 700) -> Prior:
    """A prior for 32 px faces that knows nothing."""
    torch.manual_seed(0)
    spec = PriorSpec(SIZE, prediction="v_prediction", patch=2, max_timestep=max_timestep)
    return Prior(small_unet(spec, (32, 32)), spec, Schedule.linear(), name="tiny", licence="", fingerprint="")


def test_distance_is_blind_to_light_contrast_and_mirroring() -> None:
    faces = blobs(3)
    changed = (0.6 * faces[:, :, ::-1] + 20).astype(np.uint8)
    apart = distances(faces, changed)
    assert apart.diagonal().max() < 0.03
    assert apart[~np.eye(3, dtype=bool)].min() > 0.5


def test_distance_is_the_rms_difference_of_standardised_lumas() -> None:
    one, other = blobs(2)
    grey = [face.astype(float) @ [0.299, 0.587, 0.114] for face in (one, other, other[:, ::-1])]
    first, second, mirrored = ((luma - luma.mean()) / luma.std() for luma in grey)
    expected = min(np.sqrt(((first - version) ** 2).mean()) for version in (second, mirrored))
    np.testing.assert_allclose(distances(one[None], other[None]), [[expected]], rtol=1e-5)


def test_flat_faces_have_a_distance() -> None:
    assert np.isfinite(distances(np.full((1, SIZE, SIZE, 3), 7, np.uint8), blobs(2))).all()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_expected_nearest_averages_over_all_choices(count: int) -> None:
    apart = np.random.default_rng(0).random((4, 5))
    by_hand = np.mean([apart[:, list(chosen)].min(axis=1) for chosen in combinations(range(5), count)], axis=0)
    np.testing.assert_allclose(expected_nearest(apart, count), by_hand)


@pytest.mark.parametrize("count", [0, 6])
def test_the_nearest_of_more_faces_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"nearest of {count} faces"):
        expected_nearest(np.ones((1, 5)), count)


def test_a_memorising_model_shows_and_an_honest_one_does_not() -> None:
    faces = Faces(seen=blobs(60, seed=1), unseen=blobs(12, seed=2), keys=[f"f{i}" for i in range(12)])
    rows = np.arange(12)
    themselves = nearness(faces.unseen, rows, faces)
    assert themselves.own.max() < 1e-6
    assert themselves.unseen.min() > 0.3  # its own face does not count
    reciting = nearness(faces.seen[:12], rows, faces)
    assert reciting.all_seen.max() < 1e-6
    figures = reciting.figures(themselves)
    assert figures["excess"] > 3 * figures["error"]
    noisy = np.clip(faces.unseen + np.random.default_rng(3).normal(0, 8, faces.unseen.shape), 0, 255).astype(np.uint8)
    honest = nearness(noisy, rows, faces).figures(themselves)
    assert abs(honest["excess"]) < 0.05 < figures["excess"]


def test_the_report_repeats_and_skips_what_a_prior_was_not_trained_for(tmp_path: Path) -> None:
    faces = Faces(blobs(6, seed=1, size=36), blobs(4, seed=2, size=36), list("abcd"))
    said: list[str] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        report(prior(), faces, 3, tmp_path / name, said.append)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 2 + len(SETTINGS) + 1
    figures = json.loads((tmp_path / "first" / "prior.memorisation.json").read_text())
    assert (figures["faces"], figures["training_faces"], figures["compared_faces"]) == (3, 6, 3)
    assert figures["distances"]["held-out faces"]["own"] == pytest.approx(0, abs=1e-6)
    with Image.open(tmp_path / "first" / "prior.neighbours.png") as sheet:
        assert sheet.size == (5 * SIZE, 3 * SIZE)

    report(prior(max_timestep=400), faces, 3, tmp_path, said.append)
    assert "N = 4" in said[-1] and "N = 8" not in said[-1]
    report(prior(max_timestep=100), faces, 3, tmp_path, said.append)
    assert said[-1] == "memorisation: not measured, 'tiny' was trained below timestep 100"


def test_inputs_are_degraded_alike_whatever_else_is_measured() -> None:
    faces = blobs(3, size=36)
    together = degraded(faces, np.array([5, 0, 9]), SIZE)
    assert together.shape == (3, SIZE, SIZE, 3)
    np.testing.assert_array_equal(degraded(faces[1:2], np.array([0]), SIZE), together[1:2])


def test_the_table_has_a_row_for_every_kind_of_image() -> None:
    faces = Faces(blobs(5, seed=1), blobs(3, seed=2), list("abc"))
    themselves = nearness(faces.unseen, np.arange(3), faces)
    figure = themselves.figures(themselves)
    lines = table({"one": figure, "two": figure}, 5, 2).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
