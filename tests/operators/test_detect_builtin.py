"""The built-in detector, on public-domain photographs that installed packages carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image

from operators.detect.builtin import BuiltinDetector
from operators.detect.contract import Detection
from operators.detect.landmarks import LandmarkNetwork
from operators.detect.network import FaceNetwork
from operators.detect.suppression import Candidates, overlaps
from operators.training.weights import WeightsError, save_weights, sha256_file
from operators.weights import builtin

Photo = NDArray[np.uint8]


@pytest.fixture(scope="module")
def detector() -> BuiltinDetector:
    return BuiltinDetector.load("builtin")


@pytest.fixture(scope="module")
def collins() -> Photo:
    return np.asarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def hopper() -> Photo:
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


def surest(detections: list[Detection]) -> Detection:
    return max(detections, key=lambda face: face.score)


def eye_distance(face: Detection) -> float:
    return float(np.linalg.norm(face.landmarks[1] - face.landmarks[0]))


def resized(photo: Photo, factor: float) -> Photo:
    height, width = photo.shape[:2]
    return np.asarray(
        Image.fromarray(photo).resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    )


def test_one_face_where_its_landmarks_are(detector: BuiltinDetector, collins: Photo, hopper: Photo) -> None:
    for photo in (collins, hopper):
        (face,) = detector.detect([photo])[0]
        x0, y0, x1, y1 = face.box
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert x0 < left_eye[0] < nose[0] < right_eye[0] < x1
        assert y0 < left_eye[1] < nose[1] < left_mouth[1] < y1
        assert left_mouth[0] < right_mouth[0]


@pytest.mark.parametrize("shift", [(0.15, 0.0, 0.15, 0.0), (0.0, -0.12, 0.0, -0.12), (0.12, 0.1, -0.12, -0.1)])
def test_confirming_a_face_corrects_its_box(
    detector: BuiltinDetector, collins: Photo, shift: tuple[float, float, float, float]
) -> None:
    face = surest(detector.detect([collins])[0])
    wanted = np.array(face.box, np.float32)
    off = wanted + np.array(shift, np.float32) * (wanted[2] - wanted[0])
    with torch.inference_mode():
        seen = detector.scanner.confirm(
            collins, Candidates(np.array([0.5], np.float32), off[None], face.landmarks[None])
        )
    assert seen.scores[0] > 0.5
    assert overlaps(wanted, seen.boxes)[0][0] > overlaps(wanted, off[None])[0][0] + 0.05


def test_scale_does_not_matter(detector: BuiltinDetector, collins: Photo) -> None:
    reference = surest(detector.detect([collins])[0])
    for factor in (0.3, 0.7, 1.9):
        face = surest(detector.detect([resized(collins, factor)])[0])
        back = (face.landmarks + 0.5) / factor - 0.5
        error = np.linalg.norm(back - reference.landmarks, axis=1).mean() / eye_distance(reference)
        assert error < 0.08, f"at {factor} of the size"


def test_grey_finds_the_same_face(detector: BuiltinDetector, collins: Photo) -> None:
    reference = surest(detector.detect([collins])[0])
    grey = np.asarray(Image.fromarray(collins).convert("L").convert("RGB"))
    face = surest(detector.detect([grey])[0])
    error = np.linalg.norm(face.landmarks - reference.landmarks, axis=1).mean() / eye_distance(reference)
    assert error < 0.08


def test_many_faces_of_very_different_sizes(detector: BuiltinDetector, collins: Photo) -> None:
    reference = surest(detector.detect([collins])[0])
    canvas = np.full((700, 1400, 3), 90, np.uint8)
    wanted = []
    for factor, x, y in ((1.2, 10, 10), (0.5, 700, 20), (0.25, 1000, 30), (0.25, 1200, 300), (0.5, 750, 400)):
        photo = resized(collins, factor)
        canvas[y : y + photo.shape[0], x : x + photo.shape[1]] = photo[: 700 - y, : 1400 - x]
        wanted.append(np.array(reference.box, np.float32) * factor + np.array([x, y, x, y], np.float32))
    found = detector.detect([canvas])[0]
    boxes = np.array([face.box for face in found], np.float32)
    assert len(found) == len(wanted)
    assert all(overlaps(box, boxes)[0].max() > 0.5 for box in wanted)
    assert found == sorted(found, key=lambda face: face.box[:2])


def test_a_face_does_not_depend_on_the_rest_of_the_batch(
    detector: BuiltinDetector, collins: Photo, hopper: Photo
) -> None:
    together = detector.detect([collins, hopper])
    for photo, with_others in zip((collins, hopper), together, strict=True):
        (alone,) = detector.detect([photo])
        assert [face.box for face in alone] == [face.box for face in with_others]
        for a, b in zip(alone, with_others, strict=True):
            np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_a_face_does_not_depend_on_the_number_of_threads(detector: BuiltinDetector, hopper: Photo) -> None:
    threads, answers = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            answers += detector.detect([np.ascontiguousarray(hopper[:, ::-1])])
    finally:
        torch.set_num_threads(threads)
    one, two = ([face.landmarks for face in answer] for answer in answers)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (33, 31), (400, 400)])
def test_nothing_is_an_empty_list(detector: BuiltinDetector, shape: tuple[int, int]) -> None:
    assert detector.detect([np.full((*shape, 3), 128, np.uint8)]) == [[]]


def test_no_photos_no_answers(detector: BuiltinDetector) -> None:
    assert detector.detect([]) == []


def test_fingerprint_is_that_of_the_file(detector: BuiltinDetector) -> None:
    assert detector.fingerprint == sha256_file(builtin("detector"))


def test_boxes_stay_within_the_photo(detector: BuiltinDetector, collins: Photo) -> None:
    x0, y0, x1, y1 = (round(edge) for edge in surest(detector.detect([collins])[0]).box)
    cut = collins[y0 + (y1 - y0) // 5 :, x0:x1]
    for face in detector.detect([cut])[0]:
        assert 0 <= face.box[0] < face.box[2] <= cut.shape[1]
        assert 0 <= face.box[1] < face.box[3] <= cut.shape[0]


def test_weights_of_another_kind_or_shape_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_weights(other, {"x": torch.zeros(1)}, {"kind": "prior"})
    with pytest.raises(WeightsError, match="detector"):
        BuiltinDetector.load(str(other))
    save_weights(other, {"x": torch.zeros(1)}, {"kind": "detector", "network": FaceNetwork().config.to_json()})
    with pytest.raises(WeightsError, match="train it again"):
        BuiltinDetector.load(str(other))
    with pytest.raises(WeightsError, match="not found"):
        BuiltinDetector.load(str(tmp_path / "absent.safetensors"))


def test_trained_weights_load_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    scan, landmarks = FaceNetwork(), LandmarkNetwork()
    state = {f"scan.{name}": value for name, value in scan.state_dict().items()}
    state |= {f"landmarks.{name}": value for name, value in landmarks.state_dict().items()}
    save_weights(path, state, {"kind": "detector", "network": scan.config.to_json()})
    assert BuiltinDetector.load(str(path)).detect([np.zeros((64, 64, 3), np.uint8)]) == [[]]
