"""The manifest: one Parquet row per photo, whatever became of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.members import Written, sha256
from pipeline.parquet import read_columns
from pipeline.records import Face, Photo

PREVIEW_SIDE = 96
"""Height in pixels of a preview strip; its width is three times that."""

PREVIEWS = 3
"""How many of a unit's best, and of its worst, faces get a preview."""

FACE = pa.struct(
    [
        ("name", pa.string()),
        ("box", pa.list_(pa.float64())),
        ("score", pa.float64()),
        ("landmarks", pa.list_(pa.float32())),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("n", pa.int32()),
        ("tau", pa.int32()),
        ("niqe_in", pa.float64()),
        ("niqe_dr2", pa.float64()),
        ("niqe_out", pa.float64()),
        ("evaluations", pa.int32()),
        ("preview", pa.large_binary()),
    ]
)

SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("index", pa.int32()),
        ("key", pa.string()),
        ("shard", pa.string()),
        ("part", pa.int32()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("image_name", pa.string()),
        ("image_bytes", pa.int64()),
        ("image_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("grey", pa.bool_()),
        ("folder", pa.string()),
        ("restored_name", pa.string()),
        ("restored_bytes", pa.int64()),
        ("restored_sha256", pa.string()),
        ("restored_scale", pa.int32()),
        ("faces", pa.list_(FACE)),
    ]
)
"""Names are member names in the unit's object in `folder`. landmarks: x0, y0, x1, ... in pixels of the upright photo.

restored_scale: how many times larger than its input the restored photo is.
preview: JPEG, the face before | after DR2 | after the enhancer, side by side; null for most faces.
"""


def write_manifest(path: Path, photos: Sequence[Photo], written: Mapping[int, Written]) -> None:
    """Write the rows of a unit to the local file `path`; `written` holds what became of photo `index`.

    The same photos give the same bytes under one release of Arrow.
    """
    previews = _previews(photos)
    rows = [_row(photo, written.get(photo.index), previews) for photo in photos]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def read_manifest(data: bytes, columns: Sequence[str] | None = None, *, threads: bool = True) -> pa.Table:
    """The rows of the manifest of these bytes, or some columns of them; see `read_columns`. Raises ParquetError."""
    return read_columns(data, SCHEMA, columns, threads=threads)


def _row(photo: Photo, written: Written | None, previews: Mapping[int, bytes]) -> dict[str, Any]:
    restored = written.restored if written else None
    names = written.faces if written else ()
    return {
        "unit": photo.unit,
        "index": photo.index,
        "key": photo.key,
        "shard": photo.shard,
        "part": photo.part,
        "status": photo.status,
        "error": photo.error or None,
        "message": photo.message or None,
        "image_name": photo.image_name or None,
        "image_bytes": len(photo.image),
        "image_sha256": sha256(photo.image) if photo.image_name else None,
        "width": photo.width,
        "height": photo.height,
        "grey": photo.grey,
        "folder": written.folder if written else None,
        "restored_name": restored.name if restored else None,
        "restored_bytes": restored.bytes if restored else None,
        "restored_sha256": restored.sha256 if restored else None,
        "restored_scale": written.scale if written and restored else None,
        "faces": [_face_row(face, name, previews) for face, name in zip(photo.faces, names, strict=True)],
    }


def _face_row(face: Face, name: str, previews: Mapping[int, bytes]) -> dict[str, Any]:
    return {
        "name": name,
        "box": [float(x) for x in face.box],
        "score": face.score,
        "landmarks": np.asarray(face.landmarks, np.float32).ravel(),
        "status": face.status,
        "reason": face.reason,
        "n": face.n,
        "tau": face.tau,
        "niqe_in": face.niqe_in,
        "niqe_dr2": face.niqe_dr2,
        "niqe_out": face.niqe_out,
        "evaluations": face.evaluations,
        "preview": previews.get(id(face)),
    }


def _previews(photos: Sequence[Photo]) -> dict[int, bytes]:
    """Strips of the unit's best and worst faces by NIQE, or of any where none has a score, by identity of the face."""
    faces = [face for photo in photos for face in photo.faces]
    scored = [face for face in faces if face.niqe_out is not None and np.isfinite(face.niqe_out)]
    ranked = sorted(scored or faces, key=lambda face: face.niqe_out or 0.0)
    return {id(face): _strip(face) for face in [*ranked[:PREVIEWS], *ranked[-PREVIEWS:]]}


def _strip(face: Face) -> bytes:
    """JPEG (96, 288): before | DR2 | after. What a kept face skipped is shown as it was before."""
    before = face.crop if face.crop is not None else face.image
    stages = [stage if stage is not None else before for stage in (face.crop, face.dr2, face.image)]
    strip = Image.new("RGB", (PREVIEW_SIDE * len(stages), PREVIEW_SIDE))
    for place, stage in enumerate(stages):
        if stage is not None:
            picture = Image.fromarray(stage).resize((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BICUBIC)
            strip.paste(picture, (PREVIEW_SIDE * place, 0))
    out = io.BytesIO()
    strip.save(out, format="JPEG", quality=85)
    return out.getvalue()
