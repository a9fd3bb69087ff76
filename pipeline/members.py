"""What a finished photo becomes: the members of the output shards.

The bytes depend on the photo, the settings and the library versions alone: no time, no attempt, no host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from operators.detect.align import enlarge_photo, resize_matrix
from operators.detect.paste import paste
from operators.images import ImageLimits, Picture, decode, encode_png, to_grey
from operators.parse.mask import from_png
from operators.upscale.bicubic import enlarged_plane
from pipeline.ledger import SHARDS, StoredObject, finite
from pipeline.records import Face, Photo, Pixels

BICUBIC = "bicubic"
"""The upscaler that needs no stage of its own: photos are enlarged when they are written."""

Member = tuple[str, bytes]
Encode = Callable[["Photo", "CommitContext"], "Written"]
Arrange = Callable[[Iterable["Written"]], Iterable[tuple[str, Iterable[Member]]]]


@dataclass(frozen=True)
class CommitContext:
    """What the whole run has in common and every photo's provenance repeats.

    models: role to name and hash; versions: package to version. original: keep the input image beside the
    restored one. limits: those the photos were decoded under. settings: those of a retry that differ from run.json.
    encode: a decided photo to its members. arrange: what was encoded to the members of each of the unit's tars, by
    folder, which are written in turn. upscale: how many times larger the photo is written; upscaler: what makes it so.
    """

    seed: int
    models: Mapping[str, str]
    versions: Mapping[str, str]
    original: bool = True
    limits: ImageLimits = field(default_factory=ImageLimits)
    settings: Mapping[str, Any] = field(default_factory=dict)
    encode: Encode = field(default_factory=lambda: restored_members)
    arrange: Arrange = field(default_factory=lambda: in_order)
    upscale: int = 1
    upscaler: str = BICUBIC


@dataclass(frozen=True)
class Written:
    """The members of one photo, in order; faces: name of each face's member; restored: the pasted-back photo's;
    folder: of the unit's object that holds them; scale: how many times larger the pasted-back photo is."""

    members: list[Member]
    faces: tuple[str, ...] = ()
    restored: StoredObject | None = None
    folder: str = SHARDS
    scale: int = 1


def restored_members(photo: Photo, context: CommitContext) -> Written:
    """The members of a photo that is "restored" or "no_face".

    The untouched input members (the image too, unless `context.original` is off and there is a restored one),
    KEY.face00.png ..., KEY.restored.png, and the provenance KEY.json. A photo without a face has a KEY.restored.png
    only where photos are written larger than they came. A name the input already uses gets ".dr2e" behind the key.
    Raises ImageError when the photo cannot be decoded again, ValueError when a face lacks its image or matrix.
    """
    names = _Names(photo)
    faces = [
        (names.free(f"face{number:02d}.png"), encode_png(_image(face), grey=photo.grey))
        for number, face in enumerate(photo.faces)
    ]
    face_names = tuple(name for name, _ in faces)
    pasted = [(names.free("restored.png"), _pasted(photo, context))] if faces or context.upscale > 1 else []
    restored = next((StoredObject(name, len(data), sha256(data)) for name, data in pasted), None)
    provenance = (names.free("json"), _json(_provenance(photo, face_names, restored, context)))

    original = [(photo.image_name, photo.image)] if context.original or not pasted else []
    members = [*original, *photo.sidecars, *faces, *pasted, provenance]
    return Written(members, face_names, restored, scale=context.upscale)


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


def _pasted(photo: Photo, context: CommitContext) -> bytes:
    """The photo as PNG, at its new size, with its restored faces in place; a kept face is in place already."""
    picture = _enlarged(photo, context)
    crops, masks = [], []
    for face in photo.faces:
        if face.status == "restored":
            image = _image(face)
            if face.matrix is None or face.crop is None:
                raise ValueError("a restored face has no crop or matrix to paste it back with")
            matrix = resize_matrix(enlarge_photo(face.matrix, context.upscale), len(face.crop), len(image))
            crops.append((to_grey(image) if photo.grey else image, matrix))
            masks.append(None if face.mask is None else from_png(face.mask))
    pixels = paste(picture.pixels, crops, masks=masks) if crops else picture.pixels
    return encode_png(pixels, grey=photo.grey, alpha=picture.alpha)


def _enlarged(photo: Photo, context: CommitContext) -> Picture:
    """The photo at the size it is written at."""
    picture, scale = decode(photo.image, context.limits), context.upscale
    if scale == 1:
        return picture
    if photo.enlarged is not None:
        own = replace(context.limits, max_bytes=len(photo.enlarged))  # what we made ourselves may have more bytes
        pixels = decode(photo.enlarged, own).pixels
    elif context.upscaler == BICUBIC:
        pixels = enlarged_plane(picture.pixels, scale)
    else:
        raise ValueError("the photo was not enlarged; was a stage skipped?")
    alpha = None if picture.alpha is None else enlarged_plane(picture.alpha, scale)
    return replace(picture, pixels=pixels, alpha=alpha)


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
        "restored": restored and {"name": restored.name, "sha256": restored.sha256} | _larger(context),
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


def _larger(context: CommitContext) -> dict[str, Any]:
    """How much larger the photo became, and what did it; nothing where it kept its size."""
    return {} if context.upscale == 1 else {"scale": context.upscale, "upscaler": context.upscaler}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode()
