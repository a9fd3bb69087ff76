"""A block is a unit: one row, whole photos in it, whatever Ray does with blocks."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.blocks import Failure, failed_block, failure_of, from_block, to_block, unit_of
from pipeline.records import Face, Photo


def photos(count: int) -> list[Photo]:
    made = []
    for index in range(count):
        face = Face((0.0, 1.0, 2.0, 3.0), 0.5, np.ones((5, 2), np.float32), crop=np.full((4, 4, 3), index, np.uint8))
        made.append(Photo("u", index, f"k{index}", f"k{index}.jpg", b"x" * index, faces=[face] * index))
    return made


def test_photos_come_back_as_they_went():
    block = to_block("u", photos(3))
    back = from_block(block)
    assert (block.num_rows, unit_of(block), failure_of(block)) == (1, "u", None)
    assert [(photo.key, photo.image, len(photo.faces)) for photo in back] == [
        ("k0", b"", 0),
        ("k1", b"x", 1),
        ("k2", b"xx", 2),
    ]
    np.testing.assert_array_equal(back[2].faces[1].crop, photos(3)[2].faces[1].crop)


def test_a_failed_unit_has_a_reason_no_photos_and_the_same_schema():
    block = failed_block("u", "disk full", outside=True)
    assert failure_of(block) == Failure("u", "disk full", outside=True)
    assert from_block(block) == []
    assert block.schema == to_block("u", photos(1)).schema


def test_two_units_in_a_block_are_an_error():
    two = pa.concat_tables([to_block("u", photos(1)), to_block("v", photos(1))])
    with pytest.raises(ValueError, match="a block must be one unit, got 2"):
        from_block(two)
