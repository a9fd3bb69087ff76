"""A Ray Data block is one unit: a table of one row, whose column ``photos`` lists the unit's photos.

Ray closes a block when it passes ``DataContext.target_max_block_size``, and splits a large one between rows.
With a target of one byte every unit is therefore a block of its own as soon as it is read; because it is a
single row nothing splits it or merges it with another. The photos inside stay one Arrow row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.records import Photo, from_table, to_table

TARGET_MAX_BLOCK_SIZE = 1
"""Bytes: the setting of ``DataContext.target_max_block_size`` that this layout needs."""


def to_block(unit: str, photos: Sequence[Photo]) -> pa.Table:
    """The block of the unit with this id; a unit of an empty shard has no photos."""
    return _block(unit, to_table(photos))


def unit_of(block: pa.Table) -> str:
    """The id of the block's unit."""
    return str(_only_row(block).column("unit")[0].as_py())


@dataclass(frozen=True)
class Failure:
    """Why a unit could not be finished this time.

    unit: its id, or the shard's name when the shard could not even be read. reason: one line. outside: storage or the
    input failed, whatever the photos are like, so that trying them one by one would not help.
    """

    unit: str
    reason: str
    outside: bool = False


def failed_block(unit: str, reason: str, *, outside: bool = False) -> pa.Table:
    """The block of a unit that could not be finished (see `Failure`); stages pass it on, nothing is committed."""
    return _block(unit, to_table([]), reason, outside)


def failure_of(block: pa.Table) -> Failure | None:
    """What a failed block says, else None."""
    row = _only_row(block)
    reason = str(row.column("failure")[0].as_py())
    return Failure(unit_of(block), reason, bool(row.column("outside")[0].as_py())) if reason else None


def from_block(block: pa.Table) -> list[Photo]:
    """The photos of a block. Raises ValueError for a block that is not exactly one unit."""
    rows = _only_row(block).column("photos").combine_chunks().flatten()
    return from_table(pa.Table.from_struct_array(rows))


def errors_of(block: pa.Table) -> list[str]:
    """The code each photo of a block is rejected with, "" for the others; their pictures are not looked at."""
    rows = _only_row(block).column("photos").combine_chunks().flatten()
    return [str(code) for code in rows.field("error").to_pylist()]


def _block(unit: str, photos: pa.Table, failure: str = "", outside: bool = False) -> pa.Table:
    rows = photos.to_struct_array().combine_chunks()
    return pa.table(
        {
            "unit": pa.array([unit], pa.string()),
            "failure": pa.array([failure], pa.string()),
            "outside": pa.array([outside], pa.bool_()),
            "photos": pa.LargeListArray.from_arrays(pa.array([0, photos.num_rows], pa.int64()), rows),
        }
    )


def _only_row(block: pa.Table) -> pa.Table:
    if block.num_rows != 1:
        raise ValueError(f"a block must be one unit, got {block.num_rows}")
    return block
