"""What a search for near-duplicates sees of a unit: one row per photo, with the hash of its target."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from operators.pairs.duplicates import perceptual_hash
from pipeline.ledger import DUPLICATES, TARGETS, LedgerError
from pipeline.parquet import ParquetError, read_columns
from pipeline.records import Photo
from pipeline.storage import Location

Row = TypeVar("Row")


@dataclass(frozen=True)
class Seen:
    """A photo that was looked at. shard, part, index, key, width, height, grey: as in `records.Photo`.

    image_crc32: of its bytes, for telling whether they are still these. hash: of its target; None when it has none, and
    then error and message say why.
    """

    shard: str
    part: int
    index: int
    key: str
    image_crc32: int
    width: int
    height: int
    grey: bool
    error: str | None
    message: str | None
    hash: int | None

    @classmethod
    def of(cls, photo: Photo) -> Seen:
        """What is seen of a photo behind the stage `Target`."""
        target = photo.faces[0].image if photo.faces else None
        return cls(
            photo.shard, photo.part, photo.index, photo.key, crc32(photo), photo.width, photo.height, photo.grey,
            photo.error or None, photo.message or None, None if target is None else perceptual_hash(target),
        )  # fmt: skip


@dataclass(frozen=True)
class NearDuplicate:
    """A photo whose target is one. index, key: its own. of_shard, of_key: of the first it is near, and kept; distance:
    bits, see `operators.pairs.duplicates`."""

    index: int
    key: str
    of_shard: str
    of_key: str
    distance: int


SEEN = pa.schema(
    [
        ("shard", pa.string()),
        ("part", pa.int32()),
        ("index", pa.int32()),
        ("key", pa.string()),
        ("image_crc32", pa.uint32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("grey", pa.bool_()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("hash", pa.uint64()),
    ]
)
NEAR = pa.schema(
    [
        ("index", pa.int32()),
        ("key", pa.string()),
        ("of_shard", pa.string()),
        ("of_key", pa.string()),
        ("distance", pa.int32()),
    ]
)


def seen_name(unit: str) -> str:
    """Where what was seen of a unit lies below the output."""
    return f"{TARGETS}/{unit}.parquet"


def near_name(unit: str) -> str:
    """Where the near-duplicates of a unit lie below the output."""
    return f"{DUPLICATES}/{unit}.parquet"


def listed(location: Location, folder: str) -> set[str]:
    """The units that have an object in TARGETS or DUPLICATES. Raises StorageError."""
    names = (entry.name.removeprefix(f"{folder}/") for entry in location.entries(folder))
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}


def crc32(photo: Photo) -> int:
    """Of the photo's encoded bytes."""
    return zlib.crc32(photo.image)


def to_parquet(rows: Sequence[Seen] | Sequence[NearDuplicate], schema: pa.Schema) -> bytes:
    """The rows of a unit as one object; schema: SEEN or NEAR."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema), out, compression="zstd")
    return out.getvalue()


def read_table(location: Location, name: str, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """What `to_parquet` made, or some columns of it. Raises StorageError, and LedgerError where there is none."""
    data = location.read_or_none(name)
    if data is None:
        raise LedgerError(
            f"{location.url}/{name} is not there: run again, or, if the shard changed since its faces were compared, "
            "into a new output"
        )
    try:
        return read_columns(data, schema, columns, threads=False)
    except ParquetError as error:
        raise LedgerError(f"{location.url}/{name} is damaged ({error}); delete it and run again") from None


def read_rows(location: Location, name: str, row: type[Row], schema: pa.Schema) -> list[Row]:
    """The rows of an object that `to_parquet` made of them. Raises as `read_table`."""
    found: list[dict[str, Any]] = read_table(location, name, schema).to_pylist()
    return [row(**fields) for fields in found]
