"""`dr2e inspect`: a picture per face, and the choice in it is the one a run makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.benchmarks.faces import mixed_faces
from jobs.demonstration.photographs import cup_of_coffee
from jobs.inspect import SCALES, TAUS, candidates, command, picture
from operators.dr2.checkpoints import load_prior
from operators.dr2.noise import FaceNoise
from operators.images import encode_png
from operators.quality.niqe import Niqe
from operators.restoration import DegradationRemover, Fixed

MARK = np.array([208, 60, 30], np.uint8)


@pytest.fixture(scope="module")
def remover() -> DegradationRemover:
    return DegradationRemover(load_prior("builtin"), Niqe.load("builtin"), select=Fixed(4, 40), stride=150)


def test_the_choice_is_framed_in_its_row_and_column(
    remover: DegradationRemover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.inspect.SCALES", (1, 4))
    crop = mixed_faces(3, remover.prior.size)[2]
    (removal,) = remover.remove([crop], [("a", 0)])
    shown = picture(remover, crop, FaceNoise(0, "a", 0), removal)
    cell, line = 128 + 8, 128 + 8 + 30
    assert shown.shape == (3 * line, len(TAUS) * cell, 3)
    framed = {
        (row, column)
        for row in range(3)
        for column in range(len(TAUS))
        if (shown[row * line + 1, column * cell + 1] == MARK).all()
    }
    assert framed == {(0, 1), (2, TAUS.index(4))}
    assert np.array_equal(shown[4 : 4 + 128, 4 : 4 + 128], crop)
    assert np.array_equal(shown[4 : 4 + 128, cell + 4 : cell + 4 + 128], removal.image)


def test_a_scale_has_a_candidate_per_tau(remover: DegradationRemover) -> None:
    crop = mixed_faces(3, remover.prior.size)[2]
    found = candidates(remover, SCALES[0], crop, FaceNoise(0, "a", 0))
    assert [candidate.tau for candidate, _ in found] == list(TAUS)


@pytest.mark.parametrize(
    ("data", "message"), [(encode_png(cup_of_coffee().pixels), "no face was found"), (b"text", "not a picture")]
)
def test_a_photo_without_a_face_is_one_clear_line(tmp_path: Path, data: bytes, message: str) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(data)
    result = CliRunner().invoke(command, [str(photo), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_it_writes_a_picture_that_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.inspect.SCALES", (1,))
    from jobs.demonstration.photographs import eileen_collins

    photo = tmp_path / "collins.png"
    photo.write_bytes(encode_png(eileen_collins().pixels))
    result = CliRunner().invoke(command, [str(photo), "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "collins.face00.candidates.png") as opened:
        assert opened.width == len(TAUS) * 136
