"""The case the detector is made for: the 1927 Solvay group photograph, 29 people in overlapping rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from operators.detect.align import similarity, template
from operators.detect.builtin import BuiltinDetector
from operators.detect.contract import Detection

SHARED = Path(os.environ.get("DR2E_SHARED", Path(__file__).parents[3] / "shared"))
TRUTH = json.loads((Path(__file__).parents[1] / "data" / "solvay_faces.json").read_text())
PHOTO = SHARED / "real" / TRUTH["photo"]

pytestmark = pytest.mark.skipif(not PHOTO.is_file(), reason="needs the group photograph of the shared folder")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(PHOTO) as image:
        assert list(image.size) == TRUTH["size"]
        return image.convert("RGB")


@pytest.fixture(scope="module")
def detector() -> BuiltinDetector:
    return BuiltinDetector.load("builtin")


def hits(found: list[Detection]) -> NDArray[np.bool_]:
    """(faces, detections): whether a face's middle lies in the inner half of a detection's box."""
    middles = np.array(TRUTH["middles"], float)[:, None]
    boxes = np.array([face.box for face in found], float)
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return (np.abs(middles - centre) < sides / 4).all(axis=-1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_all_29_and_none_false(detector: BuiltinDetector, photo: Image.Image, mode: str) -> None:
    (found,) = detector.detect([np.asarray(photo.convert(mode).convert("RGB"))])
    hit = hits(found)
    assert hit.any(axis=1).all()
    assert hit.any(axis=0).all()
    assert hit.sum(axis=1).max() == 1, "a face was found twice"
    # All sit or stand upright: the alignment their landmarks give turns no face by more than half a right angle.
    for face in found:
        matrix = similarity(face.landmarks, template(128))
        assert abs(np.arctan2(matrix[1, 0], matrix[0, 0])) < np.pi / 4
