"""What kept faces become: samples KEY-faceNN.png and .json, labelled as `dr2e pairs` and `dr2e train` read them."""

from __future__ import annotations

import json
from typing import Any

from operators.detect.align import template
from operators.images import encode_png
from pipeline.ledger import StoredObject, finite
from pipeline.members import CommitContext, Member, Written, licence, sha256
from pipeline.records import Face, Photo

FORMAT = "dr2e.face/1"
IDENTITY = r"^(.*?)(?:-face\d+)?$"
"""What of a sample's key is the key of its photo: the faces of one photo belong in one split."""


def kept_members(photo: Photo, context: CommitContext) -> Written:
    """The samples of a photo's kept faces. Raises ValueError for a face without an image."""
    members: list[Member] = []
    for face in photo.faces:
        if face.image is None:
            raise ValueError("a kept face has no image; was the enhancer skipped?")
        key = f"{photo.key}-face{face.candidates[0]['face']:02d}"
        told = json.dumps(finite(_told(photo, face, context)), indent=1, ensure_ascii=False)
        members += [(f"{key}.png", encode_png(face.image, grey=photo.grey)), (f"{key}.json", told.encode())]
    name, data = members[0]
    names = tuple(name for name, _ in members[::2])
    return Written(members, names, StoredObject(name, len(data), sha256(data)))


def _told(photo: Photo, face: Face, context: CommitContext) -> dict[str, Any]:
    assert face.image is not None
    return {
        "format": FORMAT,
        "key": photo.key,
        **face.candidates[0],
        "landmarks5": [[round(float(x), 3), round(float(y), 3)] for x, y in template(len(face.image))],
        "niqe": {"in": face.niqe_in, "dr2": face.niqe_dr2, "out": face.niqe_out},
        "n": face.n,
        "tau": face.tau,
        "grey": photo.grey,
        "source": {
            "shard": photo.shard,
            "name": photo.image_name,
            "sha256": sha256(photo.image),
            "box": [round(float(x), 2) for x in face.box],
        },
        "licence": licence(photo.sidecars),
        "seed": context.seed,
        "models": dict(context.models),
        "versions": dict(context.versions),
    }
