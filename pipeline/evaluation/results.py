"""What an evaluation found, photo by photo, and its Parquet form: one row per photo, whatever became of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.evaluation.choice.cells import CELL, Cell
from pipeline.ledger import finite
from pipeline.parquet import read_columns

METHODS = ("input", "dr2", "dr2+enhancer")
"""Versions of a face that are measured: as it came, after DR2 or what stands for it, and what a user gets; all at the
truth's size."""


@dataclass(frozen=True)
class Version:
    """One version of a face. method: of METHODS. values: metric to number, None where it cannot be measured.

    features: (2048,) float32, what FID compares; None when it is not measured.
    """

    method: str
    values: Mapping[str, float | None]
    features: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class FaceResult:
    """One face at one setting. status, reason, n, tau, evaluations, niqe_in: as in `records.Face`.

    strip: JPEG of all versions and the truth side by side, for contact sheets; None for most faces.
    grid: every candidate, where a grid is measured.
    """

    setting: str
    status: str
    reason: str
    n: int | None
    tau: int | None
    evaluations: int
    versions: tuple[Version, ...]
    niqe_in: float | None = None
    strip: bytes | None = None
    grid: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class PhotoResult:
    """One photo. error, message: why it is left out; "" when it is measured. seconds: spent on it, by stage.

    truth: features of the truth, as in `Version`.
    """

    shard: str
    key: str
    status: Literal["measured", "left_out"]
    error: str = ""
    message: str = ""
    truth: NDArray[np.float32] | None = None
    faces: tuple[FaceResult, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


_FEATURES = pa.list_(pa.float32())
_VERSION = pa.struct([("method", pa.string()), ("values", pa.map_(pa.string(), pa.float64())), ("features", _FEATURES)])
_FACE = pa.struct(
    [
        ("setting", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("n", pa.int32()),
        ("tau", pa.int32()),
        ("evaluations", pa.int32()),
        ("versions", pa.list_(_VERSION)),
        ("niqe_in", pa.float64()),
        ("strip", pa.large_binary()),
        ("grid", pa.list_(CELL)),
    ]
)
SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("truth", _FEATURES),
        ("faces", pa.list_(_FACE)),
        ("seconds", pa.map_(pa.string(), pa.float64())),
    ]
)


def to_parquet(photos: Sequence[PhotoResult]) -> bytes:
    """The results of a unit as one object."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(photo) for photo in photos], schema=SCHEMA), out, compression="zstd")
    return out.getvalue()


def from_parquet(data: bytes) -> list[PhotoResult]:
    """The inverse of `to_parquet`. Raises ParquetError for anything else."""
    rows = read_columns(data, SCHEMA).to_pylist(maps_as_pydicts="strict")
    return [_photo(row) for row in rows]


def values(measured: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics with None for what Parquet and JSON should not hold: an infinity says that there is no number."""
    return {name: finite(value) for name, value in measured.items()}


def _photo(row: Mapping[str, Any]) -> PhotoResult:
    return PhotoResult(**dict(row) | {"truth": _features(row["truth"]), "faces": tuple(map(_face, row["faces"]))})


def _face(row: Mapping[str, Any]) -> FaceResult:
    versions = tuple(map(_version, row["versions"]))
    return FaceResult(**dict(row) | {"versions": versions, "grid": tuple(Cell(**cell) for cell in row["grid"])})


def _version(row: Mapping[str, Any]) -> Version:
    return Version(row["method"], row["values"], _features(row["features"]))


def _features(values: Sequence[float] | None) -> NDArray[np.float32] | None:
    return None if values is None else np.asarray(values, np.float32)
