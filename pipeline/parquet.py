"""Parquet from an output, which anybody may have written: values only, no objects of Python.

A Parquet file says itself of what types its columns are, and Ray knows a type whose values are pickles: to look at such
a value runs whatever code it holds. So the types are compared with those we write before any value is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetError(ValueError):
    """Not Parquet, or not with the columns that we write. One line that does not know the file's name."""


def read_columns(
    data: bytes, schema: pa.Schema, columns: Sequence[str] | None = None, *, threads: bool = True
) -> pa.Table:
    """The table in the Parquet bytes `data`, of exactly the types of `schema`; columns: only these of them.

    threads: read with Arrow's own threads, which cost more than they give where many files are read at once.
    Raises ParquetError.
    """
    names = schema.names if columns is None else list(columns)
    try:
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=threads)
        there = file.schema_arrow  # made anew whenever it is asked for
        for name in names:
            place = there.get_field_index(name)
            if place < 0:
                raise ParquetError(f"it has no column {name}, or several")
            found, wanted = there.field(place).type, schema.field(name).type
            if found != wanted:
                raise ParquetError(f"its column {name} holds {_short(found)}, not {_short(wanted)}")
        return file.read(names, use_threads=threads)
    except (pa.ArrowException, OSError) as error:
        raise ParquetError(f"it cannot be read as Parquet ({_short(error)})") from None


def _short(value: object) -> str:
    return " ".join(str(value).split())[:200]
