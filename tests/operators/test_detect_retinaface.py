"""The adapter of facexlib's RetinaFace: errors before facexlib is asked, and its rows in our terms."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from operators.detect.retinaface import LONGEST_SIDE, WEIGHTS, RetinaFaceDetector
from operators.training.weights import WeightsError


class Rows:
    """Stands in for facexlib's network: answers with rows, remembers what it was shown."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows = np.array(rows, np.float32).reshape(-1, 15)
        self.shown: list[NDArray[np.uint8]] = []

    def detect_faces(self, image: NDArray[np.uint8], conf_threshold: float) -> NDArray[np.float32]:
        self.shown.append(image)
        return self.rows[self.rows[:, 4] > conf_threshold]


def row(x0: float, score: float = 0.9) -> list[float]:
    return [x0, 10, x0 + 40, 60, score, *range(10)]


def test_missing_weights_name_the_file_and_never_download(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=WEIGHTS):
        RetinaFaceDetector.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("facexlib")
    (tmp_path / WEIGHTS).write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=WEIGHTS):
        RetinaFaceDetector.load(tmp_path)


class Harm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_weights_that_are_a_pickle_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("facexlib")
    torch.save({"weights": Harm(tmp_path / "harm")}, tmp_path / WEIGHTS)
    # facexlib leaves it to torch whether code is run, and this makes torch choose as it did before 2.6.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(WeightsError, match=WEIGHTS):
        RetinaFaceDetector.load(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_rows_become_ordered_detections() -> None:
    detector = RetinaFaceDetector(Rows([row(70), row(20), row(50, score=0.1)]), "fingerprint")
    (found,) = detector.detect([np.zeros((100, 200, 3), np.uint8)])
    assert [face.box[0] for face in found] == [20, 70]
    assert found[0].landmarks.shape == (5, 2)
    assert found[0].landmarks.dtype == np.float32
    assert found[0].landmarks.ravel().tolist() == list(range(10))


def test_the_network_sees_blue_first() -> None:
    model = Rows([])
    photo = np.zeros((4, 4, 3), np.uint8)
    photo[..., 0] = 255
    assert RetinaFaceDetector(model, "").detect([photo]) == [[]]
    assert model.shown[0][0, 0].tolist() == [0, 0, 255]


def test_a_large_photo_is_shrunken_and_boxes_come_back_in_its_pixels() -> None:
    model = Rows([row(100)])
    width = 2 * LONGEST_SIDE
    (found,) = RetinaFaceDetector(model, "").detect([np.zeros((200, width, 3), np.uint8)])[:1]
    assert model.shown[0].shape[1] == LONGEST_SIDE
    assert found[0].box[0] == pytest.approx(2 * 100 + 0.5)
