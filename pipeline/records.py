"""The row that flows through the graph: one photo with its faces, and its Arrow form.

One row is one photo, whatever happens to it. Stages turn a block (one unit) into `Photo` objects with
`from_table`, change them in place, and hand back `to_table`. Between stages only encoded bytes and raw
uint8 buffers travel; arrays exist inside a stage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PhotoStatus = Literal["pending", "restored", "no_face", "rejected"]
FaceStatus = Literal["found", "restored", "kept"]

Pixels = NDArray[np.uint8]
"""(S, S, 3) uint8 RGB."""


@dataclass
class Face:
    """One detected face of a photo.

    box: (x0, y0, x1, y1) in pixels of the upright photo.
    landmarks: (5, 2) float32, pixels of the upright photo; both eyes, nose, both mouth corners.
    matrix: (2, 3) float64, maps photo pixels to pixels of `crop`.
    crop: the aligned face as it came, uint8 (S, S, 3).
    dr2: what the degradation remover made of it, uint8 (S, S, 3); None until then.
    image: the current result, uint8 (S', S', 3); after the enhancer S' may be a multiple of S.
    status: "found" after detection, then "restored", or "kept" when it was good enough as it came.
    n, tau: DR2's choice (low-pass scale; timestep of T = 1000); None when kept, or restored by another network.
    niqe_in, niqe_dr2, niqe_out: NIQE (lower is better) of crop, dr2 and image.
    mask: what of image is pasted back, as PNG (see `operators.parse`); None: an ellipse.
    evaluations: network evaluations spent on this face.
    candidates: what was to choose from, e.g. {"n": 4, "tau": 280, "niqe": 5.1, "fidelity": 0.93}; plain JSON.
    reason: why the policy chose or kept, in its own words.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float32]
    matrix: NDArray[np.float64] | None = None
    crop: Pixels | None = None
    dr2: Pixels | None = None
    image: Pixels | None = None
    status: FaceStatus = "found"
    n: int | None = None
    tau: int | None = None
    niqe_in: float | None = None
    niqe_dr2: float | None = None
    niqe_out: float | None = None
    evaluations: int = 0
    candidates: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    mask: bytes | None = None


@dataclass
class Photo:
    """One input sample, and what has become of it.

    unit, index: the unit it commits with, and its place in it (0, 1, ...).
    shard, shard_size, shard_etag, part, parts: the input shard (relative name, bytes, fingerprint) and the
        unit's place in it; unit_size: how many photos the unit has; started: when it was read (ISO 8601, UTC).
        Every row of a unit carries the same values.
    key: the sample's key; image_name: member name of the photo; image: its bytes, untouched ("" and b"" when
        the sample was rejected before its photo was known).
    sidecars: the other members, (name, bytes) in input order, untouched.
    width, height: pixels, upright; 0 until decoded. grey: the photo has no colour.
    status: "pending" until a stage decides: "restored", "no_face" or "rejected".
    error, message: why it was rejected: a dotted code ("image.truncated") and one line for a person.
    replaces: the code it had been rejected with before it was tried again; "" the first time.
    seconds: time spent on it by stage.
    enlarged: the photo `write.upscale` times as large, without restored faces, as PNG; None where no network did it.
    """

    unit: str
    index: int
    key: str
    image_name: str
    image: bytes
    sidecars: list[tuple[str, bytes]] = field(default_factory=list)
    shard: str = ""
    shard_size: int = 0
    shard_etag: str = ""
    part: int = 0
    parts: int = 1
    unit_size: int = 1
    started: str = ""
    width: int = 0
    height: int = 0
    grey: bool = False
    status: PhotoStatus = "pending"
    error: str = ""
    message: str = ""
    replaces: str = ""
    faces: list[Face] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    enlarged: bytes | None = None

    def reject(self, code: str, message: str) -> None:
        """Quarantine this photo: its input members and the reason are kept, its faces are forgotten."""
        self.status, self.error, self.message, self.faces = "rejected", code, message, []
        self.enlarged = None

    def spend(self, stage: str, seconds: float) -> None:
        """Add to the time `stage` took for this photo."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


_PICTURE = pa.struct([("size", pa.int32()), ("rgb", pa.large_binary())])

_FACE = pa.struct(
    [
        ("box", pa.list_(pa.float64())),
        ("score", pa.float64()),
        ("landmarks", pa.list_(pa.float32())),
        ("matrix", pa.list_(pa.float64())),
        ("crop", _PICTURE),
        ("dr2", _PICTURE),
        ("image", _PICTURE),
        ("status", pa.string()),
        ("n", pa.int32()),
        ("tau", pa.int32()),
        ("niqe_in", pa.float64()),
        ("niqe_dr2", pa.float64()),
        ("niqe_out", pa.float64()),
        ("evaluations", pa.int32()),
        ("candidates", pa.string()),
        ("reason", pa.string()),
        ("mask", pa.binary()),
    ]
)

SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("index", pa.int32()),
        ("key", pa.string()),
        ("image_name", pa.string()),
        ("image", pa.large_binary()),
        ("sidecars", pa.list_(pa.struct([("name", pa.string()), ("data", pa.large_binary())]))),
        ("shard", pa.string()),
        ("shard_size", pa.int64()),
        ("shard_etag", pa.string()),
        ("part", pa.int32()),
        ("parts", pa.int32()),
        ("unit_size", pa.int32()),
        ("started", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("grey", pa.bool_()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("replaces", pa.string()),
        ("faces", pa.list_(_FACE)),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("enlarged", pa.large_binary()),
    ]
)
"""Columns of a block. Bytes are large_binary: a unit may hold more than 2 GiB."""


def to_table(photos: Sequence[Photo]) -> pa.Table:
    """The Arrow block of `photos`, with SCHEMA also when there are none."""
    return pa.Table.from_pylist([_row(photo) for photo in photos], schema=SCHEMA)


def from_table(table: pa.Table) -> list[Photo]:
    """The photos of a block; the inverse of `to_table`."""
    return [_photo(row) for row in table.to_pylist()]


def _row(photo: Photo) -> dict[str, Any]:
    return vars(photo) | {
        "sidecars": [{"name": name, "data": data} for name, data in photo.sidecars],
        "faces": [_face_row(face) for face in photo.faces],
        "seconds": list(photo.seconds.items()),
    }


def _photo(row: Mapping[str, Any]) -> Photo:
    return Photo(
        **dict(row)
        | {
            "sidecars": [(sidecar["name"], sidecar["data"]) for sidecar in row["sidecars"]],
            "faces": [_face(face) for face in row["faces"]],
            "seconds": dict(row["seconds"]),
        }
    )


def _face_row(face: Face) -> dict[str, Any]:
    return vars(face) | {
        "box": [float(x) for x in face.box],
        "landmarks": np.asarray(face.landmarks, np.float32).ravel(),
        "matrix": None if face.matrix is None else np.asarray(face.matrix, np.float64).ravel(),
        "crop": _picture_row(face.crop),
        "dr2": _picture_row(face.dr2),
        "image": _picture_row(face.image),
        "candidates": json.dumps(face.candidates),
    }


def _face(row: Mapping[str, Any]) -> Face:
    matrix = row["matrix"]
    return Face(
        **dict(row)
        | {
            "box": tuple(row["box"]),
            "landmarks": np.array(row["landmarks"], np.float32).reshape(5, 2),
            "matrix": None if matrix is None else np.array(matrix, np.float64).reshape(2, 3),
            "crop": _picture(row["crop"]),
            "dr2": _picture(row["dr2"]),
            "image": _picture(row["image"]),
            "candidates": json.loads(row["candidates"]),
        }
    )


def _picture_row(pixels: Pixels | None) -> dict[str, Any] | None:
    if pixels is None:
        return None
    size = pixels.shape[0]
    if pixels.shape != (size, size, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"a face picture is uint8 (S, S, 3), not {pixels.dtype} {pixels.shape}")
    return {"size": size, "rgb": pixels.tobytes()}


def _picture(row: Mapping[str, Any] | None) -> Pixels | None:
    if row is None:
        return None
    # A copy, because torch wants arrays that may be written to.
    return np.frombuffer(row["rgb"], np.uint8).reshape(row["size"], row["size"], 3).copy()
