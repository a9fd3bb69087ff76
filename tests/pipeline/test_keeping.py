from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from jobs.demonstration.photographs import eileen_collins, grace_hopper
from operators.detect.align import align
from operators.images import encode_png
from pipeline.config import ConfigError, load
from pipeline.keeping.members import IDENTITY, kept_members
from pipeline.keeping.stages import DetectOrReject, EnhanceAndKeep
from pipeline.members import CommitContext
from pipeline.pairs.members import identity
from pipeline.records import Face, Photo

NOISE = np.random.default_rng(0).normal(0, 1, (128, 128, 3))


def a_face(photograph: object = None, shift: int = 0) -> np.ndarray:
    """An aligned face of 256 px."""
    found = photograph or eileen_collins()
    return align(found.pixels, found.faces[0] - (shift, 0), 256)[0]  # type: ignore[attr-defined]


def half(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.LANCZOS))


def restored(image: np.ndarray, crop: np.ndarray | None = None, niqe: tuple[float, float] = (6.0, 4.0)) -> Face:
    """A face that came as `crop`, a noisy and smaller `image` unless it is given, and became `image`."""
    if crop is None:
        crop = np.clip(half(image) + 12 * NOISE, 0, 255).astype(np.uint8)
    face = Face((0, 0, 9, 9), 1.0, np.zeros((5, 2), np.float32), crop=crop, image=image, status="restored")
    face.niqe_in, face.niqe_out = niqe
    return face


def stage(*settings: str) -> EnhanceAndKeep:
    config = load(None, ["keep={}", *settings], {"input": "in", "output": "out"})
    return EnhanceAndKeep(config, 128, "cpu", 1)


@pytest.fixture(scope="module")
def keeper() -> EnhanceAndKeep:
    return stage()


def test_a_face_that_became_better_and_stayed_itself_is_kept(keeper: EnhanceAndKeep) -> None:
    measured, refusal = keeper.judge(restored(a_face()))
    assert refusal is None
    assert measured["gain"] == 2 and measured["fidelity"] > 0.96 and measured["moved"] < 0.12


@pytest.mark.parametrize(
    ("face", "code"),
    [
        (lambda: restored(a_face(), niqe=(4.0, 3.6)), "keep.no_gain"),
        (lambda: restored(a_face(), crop=half(a_face(grace_hopper()))), "keep.unfaithful"),
        (lambda: restored(np.full((256, 256, 3), 90, np.uint8)), "keep.no_face"),
        (lambda: restored(a_face(shift=30)), "keep.moved"),
    ],
)
def test_another_is_left_out_with_its_reason(keeper: EnhanceAndKeep, face: object, code: str) -> None:
    _, refusal = keeper.judge(face())  # type: ignore[operator]
    assert refusal is not None and refusal[0] == code


def test_what_was_not_restored_or_cannot_be_measured_is_left_out(keeper: EnhanceAndKeep) -> None:
    face = restored(a_face())
    face.status = "kept"
    assert keeper.judge(face)[1][0] == "keep.unchanged"  # type: ignore[index]
    face = restored(a_face())
    face.niqe_out = None
    assert keeper.judge(face)[1][0] == "keep.unmeasured"  # type: ignore[index]


def test_a_photo_keeps_its_good_faces_and_tells_of_the_others(keeper: EnhanceAndKeep) -> None:
    photo = Photo("u", 0, "p", "p.jpg", b"jpeg", [("p.json", b'{"license": "CC0"}')])
    photo.faces, photo.status = [restored(a_face(), niqe=(4, 4)), restored(a_face())], "restored"
    keeper.choose(photo, [keeper.judge(face) for face in photo.faces])
    assert [face.candidates[0]["face"] for face in photo.faces] == [1]
    assert photo.faces[0].candidates[0]["left_out"] == {"keep.no_gain": 1}
    written = kept_members(photo, CommitContext(0, {}, {}))
    assert [name for name, _ in written.members] == ["p-face01.png", "p-face01.json"]
    assert written.members[0][1] == encode_png(a_face()) and written.restored is not None
    told = json.loads(written.members[1][1])
    assert told["licence"] == "CC0" and np.shape(told["landmarks5"]) == (5, 2) and told["source"]["name"] == "p.jpg"
    again, _ = align(np.asarray(Image.open(io.BytesIO(written.members[0][1]))), told["landmarks5"], 256)
    assert np.abs(again.astype(int) - a_face()).max() <= 1, "its labels cut out the face as it is"


def test_nothing_is_left_out_before_everything_is_judged(
    keeper: EnhanceAndKeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage may be called again for the same photos after it raised."""
    photos = [
        Photo("u", 0, "p", "p.jpg", b"", faces=[restored(a_face(), niqe=(4, 4))]),
        Photo("u", 1, "q", "q.jpg", b""),
    ]
    photos[1].faces = [restored(a_face())]
    judge = keeper.judge

    def fail(face: Face) -> object:
        if face is photos[1].faces[0]:
            raise ZeroDivisionError
        return judge(face)

    monkeypatch.setattr(keeper, "judge", fail)
    with pytest.raises(ZeroDivisionError):
        keeper.work(photos)
    assert [len(photo.faces) for photo in photos] == [1, 1] and not photos[0].error


def test_a_photo_without_any_good_face_is_rejected(keeper: EnhanceAndKeep) -> None:
    photo = Photo("u", 0, "p", "p.jpg", b"jpeg", faces=[restored(a_face(), niqe=(4, 4))], status="restored")
    keeper.choose(photo, [keeper.judge(face) for face in photo.faces])
    assert (photo.status, photo.error, photo.faces) == ("rejected", "keep.no_gain", [])


def test_a_photo_without_a_face_is_rejected() -> None:
    config = load(None, ["keep={}"], {"input": "in", "output": "out"})
    photo = Photo("u", 0, "p", "p.png", encode_png(np.full((64, 64, 3), 90, np.uint8)))
    DetectOrReject(config, 128, "cpu", 1).work([photo])
    assert (photo.status, photo.error) == ("rejected", "face.none")


def test_the_faces_of_a_photo_are_of_one_identity() -> None:
    assert {identity(key, IDENTITY) for key in ("p-face00", "p-face131", "p")} == {"p"}
    assert identity("a-face-lift", IDENTITY) == "a-face-lift"


def test_a_run_makes_one_thing() -> None:
    with pytest.raises(ConfigError, match="a run makes one of them"):
        load(None, ["keep={}", "pairs={}"], {"input": "in", "output": "out"})
