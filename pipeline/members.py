"""What a finished photo becomes: the members of the output shards.

The bytes depend on the photo, the settings and the library versions alone: no time, no attempt, no host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from operators.detect.align import resize_matrix
from operators.detect.paste import paste
from operators.images import ImageLimits, decode, encode_png, to_grey
from pipeline.ledger import SHARDS, StoredObject, finite
from pipeline.records import Face, Photo, Pixels

Member = tuple[str, bytes]
Encode = Callable[["Photo", "CommitContext"], "Written"]
Arrange = Callable[[Iterable["Written"]], Iterable[tuple[str, Iterable[Member]]]]


@dataclass(frozen=True)
class CommitContext:
    """What the whole run has in common and every photo's provenance repeats.

    models: role to name and hash; versions: package to version. original: keep the input image beside the
    restored one. limits: those the photos were decoded under. settings: those of a retry that differ from run.json.
    encode: a decided photo to its members. arrange: what was encoded to the members of each of the unit's tars, by
    folder, which are written in turn.
    """

    seed: int
    models: Mapping[str, str]
    versions: Mapping[str, str]
    original: bool = True
    limits: ImageLimits = field(default_factory=ImageLimits)
    settings: Mapping[str, Any] = field(default_factory=dict)
    encode: Encode = field(default_factory=lambda: restored_members)
    arrange: Arrange = field(default_factory=lambda: in_order)


@dataclass(frozen=True)
class Written:
    """The members of one photo, in order; faces: name of each face's member; restored: the pasted-back photo's;
    folder: of the unit's object that holds them."""

    members: list[Member]
    faces: tuple[str, ...] = ()
    restored: StoredObject | None = None
    folder: str = SHARDS


def restored_members(photo: Photo, context: CommitContext) -> Written:
    """The members of a photo that is "restored" or "no_face".

    The untouched input members (the image too, unless `context.original` is off and there is a restored one),
    KEY.face00.png ..., KEY.restored.png, and the provenance KEY.json. A name the input already uses gets
    ".dr2e" behind the key. Raises ImageError when the photo cannot be decoded again, ValueError when a face
    lacks its image or matrix.
    """
    names = _Names(photo)
    faces = [
        (names.free(f"face{number:02d}.png"), encode_png(_image(face), grey=photo.grey))
        for number, face in enumerate(photo.faces)
    ]
    face_names = tuple(name for name, _ in faces)
    pasted = [(names.free("restored.png"), _pasted(photo, context.limits))] if faces else []
    restored = next((StoredObject(name, len(data), sha256(data)) for name, data in pasted), None)
    provenance = (names.free("json"), _json(_provenance(photo, face_names, restored, context)))

    original = [(photo.image_name, photo.image)] if context.original or not pasted else []
    return Written([*original, *photo.sidecars, *faces, *pasted, provenance], face_names, restored)


def in_order(results: Iterable[Written]) -> Iterator[tuple[str, Iterable[Member]]]:
    """One shard, its members in the order of the photos, one photo's in memory at a time."""
    yield SHARDS, (member for result in results for member in result.members)


def rejected_members(photo: Photo) -> list[Member]:
    """The members of a rejected photo: all that could be read of its input, and KEY.error.json."""
    members = [(photo.image_name, photo.image)] if photo.image_name else []
    members += photo.sidecars
    reason = {
        "format": "dr2e.error/1",
        "key": photo.key,
        "shard": photo.shard,
        "error": photo.error,
        "message": photo.message,
        "members": [name for name, _ in members],
    }
    return [*members, (_Names(photo).free("error.json"), _json(reason))]


def licence(sidecars: Iterable[tuple[str, bytes]]) -> str | None:
    """What the sample's own JSON says under "licence" or "license"; None where it says nothing."""
    for name, data in sidecars:
        if name.lower().endswith(".json"):
            try:
                told = json.loads(data)
                found = told.get("licence", told.get("license"))
            except (ValueError, AttributeError, RecursionError):
                return None
            return found if isinstance(found, str) else None
    return None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Names:
    """Names for new members of a photo's sample that collide with none of its own."""

    def __init__(self, photo: Photo) -> None:
        self.key = photo.key
        self.taken = {photo.image_name, *(name for name, _ in photo.sidecars)}

    def free(self, extension: str) -> str:
        name, marks = f"{self.key}.{extension}", "dr2e"
        while name in self.taken:
            name, marks = f"{self.key}.{marks}.{extension}", f"{marks}.dr2e"
        self.taken.add(name)
        return name


def _image(face: Face) -> Pixels:
    if face.image is None:
        raise ValueError("a face has no image; was the enhancer skipped?")
    return face.image


def _pasted(photo: Photo, limits: ImageLimits) -> bytes:
    """The photo as PNG with its restored faces in place; a kept face is in place already."""
    picture = decode(photo.image, limits)
    crops = []
    for face in photo.faces:
        if face.status == "restored":
            image = _image(face)
            if face.matrix is None or face.crop is None:
                raise ValueError("a restored face has no crop or matrix to paste it back with")
            matrix = resize_matrix(face.matrix, len(face.crop), len(image))
            crops.append((to_grey(image) if photo.grey else image, matrix))
    pixels = paste(picture.pixels, crops) if crops else picture.pixels
    return encode_png(pixels, grey=photo.grey, alpha=picture.alpha)


def _provenance(
    photo: Photo, face_names: Sequence[str], restored: StoredObject | None, context: CommitContext
) -> dict[str, Any]:
    return {
        "format": "dr2e.photo/1",
        "key": photo.key,
        "status": photo.status,
        "input": {
            "shard": photo.shard,
            "name": photo.image_name,
            "bytes": len(photo.image),
            "sha256": sha256(photo.image),
            "width": photo.width,
            "height": photo.height,
            "grey": photo.grey,
        },
        "restored": restored and {"name": restored.name, "sha256": restored.sha256},
        "faces": [
            {
                "name": name,
                "status": face.status,
                "reason": face.reason,
                "score": round(face.score, 4),
                "box": [round(float(x), 2) for x in face.box],
                "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in face.landmarks],
                "n": face.n,
                "tau": face.tau,
                "niqe_in": face.niqe_in,
                "niqe_dr2": face.niqe_dr2,
                "niqe_out": face.niqe_out,
                "evaluations": face.evaluations,
                "candidates": face.candidates,
            }
            for name, face in zip(face_names, photo.faces, strict=True)
        ],
        "seed": context.seed,
        "models": dict(context.models),
        "versions": dict(context.versions),
    }


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode()
