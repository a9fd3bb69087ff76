from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from operators.images import ImageLimits, decode, encode_png
from pipeline.members import CommitContext, rejected_members, restored_members
from pipeline.records import Photo

MakeUnit = Callable[..., list[Photo]]


def test_a_restored_photo_has_its_input_faces_and_story(make_unit: MakeUnit, context: CommitContext) -> None:
    photo = make_unit()[0]
    written = restored_members(photo, context)
    members = dict(written.members)
    key = photo.key
    names = ["png", "txt", "face00.png", "face01.png", "restored.png", "json"]
    assert list(members) == [f"{key}.{name}" for name in names]
    assert members[f"{key}.png"] == photo.image
    assert members[f"{key}.txt"] == b"caption"
    story = json.loads(members[f"{key}.json"])
    assert [face["status"] for face in story["faces"]] == ["restored", "kept"]
    assert story["faces"][0]["candidates"][0]["niqe"] is None, "JSON has no infinity"
    assert (story["seed"], story["models"], story["versions"]) == (7, {"prior": "tiny abc123"}, {"dr2e": "0.1.0"})
    assert story["restored"]["name"] == f"{key}.restored.png"


def test_only_restored_faces_are_pasted_back(make_unit: MakeUnit, context: CommitContext) -> None:
    photo = make_unit()[0]
    before = decode(photo.image, ImageLimits()).pixels.astype(int)
    members = dict(restored_members(photo, context).members)
    after = decode(members[f"{photo.key}.restored.png"], ImageLimits()).pixels
    changed = np.abs(after - before).max(axis=2) > 0
    assert changed[40:70, 25:55].mean() > 0.95, "the restored face, on the left"
    assert not changed[:, 80:].any(), "the kept face, on the right"
    # The enhancer's picture is flat; at twice the crop's size it must still land on the face.
    assert after[45:60, 35:45].std(axis=(0, 1)).max() < 2


def test_without_the_original_nothing_is_lost(make_unit: MakeUnit, context: CommitContext) -> None:
    restored, no_face, *_ = make_unit()
    lean = replace(context, original=False)
    assert f"{restored.key}.png" not in dict(restored_members(restored, lean).members)
    assert dict(restored_members(no_face, lean).members)[f"{no_face.key}.png"] == no_face.image


def test_a_photo_without_faces_is_passed_through(make_unit: MakeUnit, context: CommitContext) -> None:
    photo = make_unit()[1]
    written = restored_members(photo, context)
    assert [name for name, _ in written.members] == [f"{photo.key}.{ext}" for ext in ("png", "txt", "json")]
    assert written.restored is None and written.faces == ()


def test_grey_stays_grey_and_alpha_stays(make_unit: MakeUnit, context: CommitContext) -> None:
    photo = make_unit()[0]
    pixels = np.repeat(decode(photo.image, ImageLimits()).pixels[..., :1], 3, axis=2)
    alpha = np.arange(160, dtype=np.uint8)[None].repeat(100, axis=0)
    photo.image, photo.grey = encode_png(pixels, grey=True, alpha=alpha), True
    for face in photo.faces:
        assert face.image is not None
        face.image[..., 0] = 200  # an enhancer that invents colour
    members = dict(restored_members(photo, context).members)
    for name in ("face00.png", "face01.png", "restored.png"):
        assert decode(members[f"{photo.key}.{name}"], ImageLimits()).mode in ("L", "LA"), name
    restored = decode(members[f"{photo.key}.restored.png"], ImageLimits())
    np.testing.assert_array_equal(restored.alpha, alpha)


def test_names_the_input_uses_are_left_to_it(make_unit: MakeUnit, context: CommitContext) -> None:
    photo = make_unit()[0]
    key = photo.key
    photo.sidecars = [(f"{key}.json", b"theirs"), (f"{key}.dr2e.json", b"too"), (f"{key}.restored.png", b"old")]
    members = restored_members(photo, context).members
    names = [name for name, _ in members]
    assert len(set(names)) == len(names)
    assert dict(members)[f"{key}.json"] == b"theirs"
    assert f"{key}.dr2e.restored.png" in names and f"{key}.dr2e.dr2e.json" in names


def test_a_rejected_photo_can_be_replayed(make_unit: MakeUnit) -> None:
    *_, bad, unread = make_unit()
    members = dict(rejected_members(bad))
    assert members[f"{bad.key}.png"] == bad.image and members[f"{bad.key}.txt"] == b"caption"
    reason = json.loads(members[f"{bad.key}.error.json"])
    assert (reason["error"], reason["message"], reason["shard"]) == ("image.truncated", "it ends early", "s.tar")
    assert [name for name, _ in rejected_members(unread)] == [f"{unread.key}.txt", f"{unread.key}.error.json"]


def test_a_face_without_its_picture_is_an_error(make_unit: MakeUnit, context: CommitContext) -> None:
    for lacking in ("image", "matrix", "crop"):
        photo = make_unit()[0]
        setattr(photo.faces[0], lacking, None)
        with pytest.raises(ValueError, match="face"):
            restored_members(photo, context)
