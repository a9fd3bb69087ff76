"""What a search for near-duplicates decides and what becomes of its photos, from stored hashes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.ledger import LedgerError
from pipeline.pairs.duplicates import decide
from pipeline.pairs.seen import NEAR, SEEN, NearDuplicate, Seen, crc32, near_name, read_rows, seen_name, to_parquet
from pipeline.pairs.verdicts import judge
from pipeline.records import Photo
from pipeline.storage import Location

A, B = "a-11111111-0000-of-0001", "b-22222222-0000-of-0001"
LIMIT = 2
FAR = 0b1111_0000_1111 << 20  # a hash that is nobody's neighbour


@pytest.fixture
def place(tmp_path: Path) -> Location:
    return Location(tmp_path / "out")


def look(place: Location, unit: str, **hashes: int | None) -> None:
    """Store what was seen of a unit: key to hash, None for a photo without a target."""
    shard = f"{unit.partition('-')[0]}.tar"
    rows = [
        Seen(shard, 0, index, key, crc32(photo(unit, key)), 7, 5, False, None if value is not None else "gate.small",
             None if value is not None else "it is small", value)
        for index, (key, value) in enumerate(hashes.items())
    ]  # fmt: skip
    place.put(seen_name(unit), to_parquet(rows, SEEN))


def photo(unit: str, key: str) -> Photo:
    return Photo(unit, 0, key, f"{key}.jpg", key.encode(), shard=f"{unit.partition('-')[0]}.tar")


def near(place: Location, unit: str) -> dict[str, tuple[str, int]]:
    """Near-duplicates of a unit: key to the key it is near and the distance."""
    rows = read_rows(place, near_name(unit), NearDuplicate, NEAR)
    return {row.key: (row.of_key, row.distance) for row in rows}


def test_the_first_by_shard_and_place_is_kept(place: Location) -> None:
    look(place, B, b0=0b1, b1=FAR, b2=None)
    look(place, A, a0=0b11, a1=FAR << 8, a2=0b11)
    decide(place, [B, A], LIMIT)
    assert near(place, A) == {"a2": ("a0", 0)} and near(place, B) == {"b0": ("a0", 1)}


def test_what_is_decided_stays_and_wins(place: Location) -> None:
    look(place, B, b0=0b1, b1=0b1)
    decide(place, [B], LIMIT)
    before = place.read(near_name(B))
    look(place, A, a0=0b11, a1=FAR)
    decide(place, [A, B], LIMIT)
    assert near(place, A) == {"a0": ("b0", 1)} and place.read(near_name(B)) == before


def test_a_photo_is_no_near_duplicate_of_what_it_was_before(place: Location) -> None:
    look(place, A, a0=0b1, a1=0b11, a2=FAR)
    decide(place, [A], LIMIT)
    again = f"{A}.retry1.0123abcd"  # a0 was kept, and failed later for another reason
    look(place, again, a0=0b1, a1=0b11)
    decide(place, [again], LIMIT)
    assert near(place, again) == {"a1": ("a0", 1)}


def test_what_a_search_left_out_is_rejected_for_its_reason(place: Location) -> None:
    look(place, A, a0=0b1, a1=0b11, a2=None)
    decide(place, [A], LIMIT)
    photos = [photo(A, key) for key in ("a0", "a1", "a2")]
    judge(photos, place, A)
    assert [one.status for one in photos] == ["pending", "rejected", "rejected"]
    assert (photos[1].error, photos[1].width, photos[1].height) == ("gate.duplicate", 7, 5)
    assert photos[1].message == "a near-duplicate of a0 in a.tar: 1 of 64 bits of their perceptual hashes differ"
    assert (photos[2].error, photos[2].message) == ("gate.small", "it is small")


def test_another_photo_under_the_same_key_is_told(place: Location) -> None:
    look(place, A, a0=0b1)
    decide(place, [A], LIMIT)
    other = photo(A, "a0")
    other.image = b"another"
    for photos in ([other], [photo(A, "a7")]):
        with pytest.raises(LedgerError, match=r"a.tar changed since its faces were compared: .* and run again"):
            judge(photos, place, A)


def test_damaged_objects_are_told_with_their_remedy(place: Location) -> None:
    look(place, A, a0=0b1)
    decide(place, [A], LIMIT)
    place.put(near_name(A), b"no parquet")
    look(place, B, b0=0b1)
    said = rf"{near_name(A)} is damaged \(.*\); delete it and run again"
    with pytest.raises(LedgerError, match=said):
        judge([photo(A, "a0")], place, A)
    with pytest.raises(LedgerError, match=said):
        decide(place, [B], LIMIT)
    place.delete(near_name(A))
    with pytest.raises(LedgerError, match="is not there: run again"):
        judge([photo(A, "a0")], place, A)
