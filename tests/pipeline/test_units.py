from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.inputs import InputError, ShardRef
from pipeline.ledger import CommitRecord
from pipeline.plan import ShardTask, changed, make_plan
from pipeline.shards import index_shard, write_shard
from pipeline.units import ShardChanged, Unit, cut, parse_unit_id, read_unit, shard_id, unit_id


def _shard(path: Path, members: list[tuple[str, bytes]], keep: int | None = None) -> ShardRef:
    write_shard(path, members)
    if keep is not None:
        path.write_bytes(path.read_bytes()[:keep])
    return ShardRef(str(path), path.name, path.stat().st_size, "tag")


def _units(path: Path, members: list[tuple[str, bytes]], keep: int | None = None, **limits: int) -> list[Unit]:
    return cut(_shard(path, members, keep), index_shard(path), **limits)


def test_every_sample_is_in_exactly_one_unit(tmp_path: Path) -> None:
    members = [(f"{number:03d}.jpg", b"x" * number) for number in range(10)]
    for limits in ({"max_samples": 3}, {"max_samples": 100}, {"max_bytes": 12}, {"max_samples": 1}, {"max_bytes": 1}):
        units = _units(tmp_path / "s.tar", members, **limits)
        keys = [sample.key for unit in units for sample in unit.samples]
        assert keys == [f"{number:03d}" for number in range(10)]
        assert [(unit.part, unit.parts) for unit in units] == [(part, len(units)) for part in range(len(units))]
        for unit in units:
            assert len(unit.samples) <= limits.get("max_samples", 256)
            assert len(unit.samples) == 1 or sum(s.bytes for s in unit.samples) <= limits.get("max_bytes", 2**28)


def test_a_photo_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    (unit,) = _units(path, [("a.json", b"{}"), ("a.jpg", b"photo"), ("a.mask.png", b"mask"), ("b.jpg", b"2")])
    first, second = read_unit(path, unit)
    assert (first.key, first.image_name, first.image) == ("a", "a.jpg", b"photo")
    assert first.sidecars == [("a.json", b"{}"), ("a.mask.png", b"mask")]
    assert (first.unit, first.shard, first.shard_size, first.shard_etag) == (
        unit.id,
        "s.tar",
        path.stat().st_size,
        "tag",
    )
    assert (first.part, first.parts, first.unit_size, first.index, second.index) == (0, 1, 2, 0, 1)
    assert first.status == second.status == "pending"


def test_what_is_wrong_comes_as_rejected_photos(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    members = [("a.jpg", b"1"), ("b.json", b"{}"), ("c.jpg", b"x" * 5000)]
    (unit,) = _units(path, members, keep=4000)
    photos = {photo.key: photo for photo in read_unit(path, unit)}
    assert {key: photo.error for key, photo in photos.items()} == {
        "a": "",
        "b": "sample.no_image",
        "c": "sample.cut",
        "s.tar": "shard.truncated",
    }
    assert photos["b"].sidecars == [("b.json", b"{}")]
    assert all(photo.status == "rejected" and photo.message for key, photo in photos.items() if key != "a")


@pytest.mark.parametrize("content", [b"", b"text" * 300, b"\0" * 10240, b"\x1f\x8b" * 300])
def test_a_shard_without_samples_is_one_rejected_row(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(content)
    (unit,) = cut(ShardRef(str(path), "s.tar", len(content), "tag"), index_shard(path))
    (photo,) = read_unit(path, unit)
    assert photo.status == "rejected" and photo.error.startswith("shard.") and photo.key == "s.tar"


def test_a_shard_that_shrinks_under_us_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    (unit,) = _units(path, [("a.jpg", b"x" * 5000)])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ShardChanged, match="shorter"):
        read_unit(path, unit)


@pytest.mark.parametrize("relative", ["0.tar", "a/b/0.tar", "größe & 写真 #1?.tar", "..tar", "x" * 300 + ".tar"])
def test_unit_names_are_safe_and_can_be_parsed(relative: str) -> None:
    name = unit_id(relative, 3, 12)
    assert name.isascii() and len(name) < 100 and not set(name) & set("/#?%& ") and not name.startswith(".")
    assert parse_unit_id(name) == (shard_id(relative), 3, 12)
    assert shard_id(relative) != shard_id(f"other/{relative}")


def test_names_that_are_no_units_are_not_parsed() -> None:
    assert parse_unit_id("notes") is None
    assert parse_unit_id("a-12345678-0000-of-00001x") is None


def test_the_plan_is_the_input_without_the_commits(tmp_path: Path) -> None:
    shards = [ShardRef(f"/x/{name}", name, 1, "") for name in ("a.tar", "b.tar", "c.tar")]
    committed = [unit_id("a.tar", part, 2) for part in range(2)] + [unit_id("c.tar", 1, 3), "something else"]
    plan = make_plan(shards, committed)
    assert [task.shard.relative for task in plan.done] == ["a.tar"]
    assert plan.pending == (ShardTask(shards[1]), ShardTask(shards[2], frozenset({1}), 3))
    assert plan.committed_units == 3 and not plan.complete
    assert make_plan(shards[:1], committed).complete


def test_a_task_leaves_out_what_is_done(tmp_path: Path) -> None:
    units = _units(tmp_path / "s.tar", [(f"{n}.jpg", b"1") for n in range(6)], max_samples=2)
    shard = units[0].shard
    assert ShardTask(shard).remaining(units) == units
    assert ShardTask(shard, frozenset({1}), 3).remaining(units) == [units[0], units[2]]
    with pytest.raises(ShardChanged, match="new output"):
        ShardTask(shard, frozenset({1}), 2).remaining(units)


def test_commits_of_two_unit_sizes_are_refused() -> None:
    shard = ShardRef("/x/a.tar", "a.tar", 1, "")
    with pytest.raises(ShardChanged, match="as 2 and as 3"):
        make_plan([shard], [unit_id("a.tar", 0, 2), unit_id("a.tar", 0, 3)])


@pytest.mark.parametrize(
    ("size", "etag", "committed_etag", "has_changed"),
    [
        (9, "abc", "abc", False),
        (9, "abd", "abc", True),
        (8, "abc", "abc", True),
        (9, "9-1700000000", "9-1600000000", False),  # local files: a copy has another time
        (9, "abc", "9-1600000000", False),  # begun on a disk, continued on S3
        (8, "8-1700000000", "9-1600000000", True),
    ],
)
def test_a_half_done_shard_must_not_change(size: int, etag: str, committed_etag: str, has_changed: bool) -> None:
    def record_of(unit: str) -> CommitRecord:
        assert unit == unit_id("a.tar", 1, 3)
        return CommitRecord(unit, "", "a.tar", 9, committed_etag, 1, 3, (), {}, {}, {}, {}, "", "")

    shard, fresh = ShardRef("/x/a.tar", "a.tar", size, etag), ShardRef("/x/b.tar", "b.tar", 1, "")
    plan = make_plan([shard, fresh], [unit_id("a.tar", 1, 3)])
    assert [task.shard for task in changed(plan, record_of, lambda _: False)] == [shard] * has_changed


@pytest.mark.parametrize(
    ("etag", "is_taken"),
    [
        ("0123456789abcdef0123456789abcdef", True),
        ("fedcba9876543210fedcba9876543210", False),  # another MD5: another content
        ("0123456789abcdef0123456789abcdef-12", True),  # of an upload in parts: says nothing of the content
        ("9-1690000000.0", True),  # of a local file: size and time
    ],
)
def test_a_faithful_copy_of_the_input_is_no_change_of_a_shard_that_is_done(etag: str, is_taken: bool) -> None:
    unit = unit_id("a.tar", 0, 1)
    plan = make_plan([ShardRef("s3://elsewhere/a.tar", "a.tar", 9, etag)], [unit])
    assert plan.complete
    asked: list[str] = []

    def record_of(name: str) -> CommitRecord:
        asked.append(name)
        committed_etag = "0123456789abcdef0123456789abcdef"
        return CommitRecord(name, "", "a.tar", 9, committed_etag, 0, 1, (), {}, {}, {}, {}, "", "")

    assert not changed(plan, record_of, lambda _: True)
    assert not asked, "no record is read of a shard that is known to be as it was"
    assert bool(changed(plan, record_of, lambda _: False)) is not is_taken
    assert asked == [unit]


def test_two_shards_of_one_short_name_are_refused() -> None:
    shards = [ShardRef(f"in/{name}", name, 1, "e") for name in ("043963/data.tar", "074056/data.tar")]
    with pytest.raises(InputError, match=r"043963/data\.tar and 074056/data\.tar .*short name, data-1b4e65ce; rename"):
        make_plan(shards, [])
