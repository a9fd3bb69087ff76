from __future__ import annotations

import numpy as np
import pytest

from pipeline.records import SCHEMA, Face, Photo, from_table, to_table


def _face() -> Face:
    rng = np.random.default_rng(0)
    return Face(
        box=(1.5, 2.0, 30.25, 40.0),
        score=0.75,
        landmarks=rng.random((5, 2), np.float32),
        matrix=rng.random((2, 3)),
        crop=rng.integers(0, 256, (8, 8, 3), np.uint8),
        image=rng.integers(0, 256, (16, 16, 3), np.uint8),
        status="restored",
        n=4,
        tau=280,
        niqe_in=9.0,
        niqe_out=float("inf"),
        evaluations=18,
        candidates=[{"n": 4, "tau": 280, "niqe": 5.5}],
        reason="best within the bound",
    )


def test_a_photo_comes_back_as_it_was() -> None:
    photo = Photo("u", 3, "key", "key.jpg", b"\0\xff", [("key.txt", b""), ("key.json", b"{}")], faces=[_face()])
    photo.spend("detect", 0.5)
    photo.spend("detect", 0.25)
    photo.spend("read", 1.0)
    (back,) = from_table(to_table([photo]))
    (face,) = back.faces
    assert {k: v for k, v in vars(back).items() if k != "faces"} == {
        k: v for k, v in vars(photo).items() if k != "faces"
    }
    assert back.seconds == {"detect": 0.75, "read": 1.0}
    for name, value in vars(_face()).items():
        np.testing.assert_array_equal(getattr(face, name), value, err_msg=name)
    assert face.dr2 is None
    assert face.crop is not None and face.crop.flags.writeable


def test_no_photos_have_the_same_columns() -> None:
    assert to_table([]).schema == SCHEMA
    assert from_table(to_table([])) == []


def test_a_rejected_photo_keeps_its_bytes_and_forgets_its_faces() -> None:
    photo = Photo("u", 0, "key", "key.jpg", b"1", [("key.txt", b"2")], faces=[_face()])
    photo.reject("image.truncated", "it ends early")
    (back,) = from_table(to_table([photo]))
    assert (back.status, back.error, back.message, back.faces) == ("rejected", "image.truncated", "it ends early", [])
    assert (back.image, back.sidecars) == (b"1", [("key.txt", b"2")])


@pytest.mark.parametrize("pixels", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 4, 3), np.uint8)])
def test_a_face_picture_is_square_uint8(pixels: np.ndarray) -> None:
    face = _face()
    face.crop = pixels
    with pytest.raises(ValueError, match=r"uint8 \(S, S, 3\)"):
        to_table([Photo("u", 0, "key", "key.jpg", b"", faces=[face])])
