"""What is done to an output, what `verify` says about it, and whether its remedy mends it."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commit import CommitContext, commit_unit
from pipeline.ledger import MANIFEST, REJECTS, SHARDS, CommitRecord, StoredObject, commit_name
from pipeline.members import sha256
from pipeline.output import Output
from pipeline.records import Photo
from pipeline.storage import Location, StorageError
from pipeline.tar import scan, write_shard
from pipeline.verification import Checked, Finding, Journal, Sample, verify
from pipeline.verification.findings import Remedies
from pipeline.verification.keys import Keys

MakeUnit = Callable[..., list[Photo]]

UNITS = ["s-12345678-0000-of-0002", "s-12345678-0001-of-0002"]


class Place:
    """An output of two units, and ways to harm it behind the back of its records, or with them."""

    def __init__(self, url: Path, make_unit: MakeUnit, context: CommitContext) -> None:
        self.location, self.folder = Location(url), url
        self.make_unit, self.context = make_unit, context
        self.commit()

    def commit(self) -> None:
        """What `dr2e restore` does: commit what no record names."""
        for part, unit in enumerate(UNITS):
            commit_unit(self.location, self.make_unit(unit, part, len(UNITS)), self.context)

    def record(self, unit: int = 0) -> CommitRecord:
        return Output(self.location).record(UNITS[unit])

    def path(self, kind: str, unit: int = 0) -> Path:
        stored = self.record(unit).object(kind)
        assert stored is not None
        return self.folder / stored.name

    def write(self, record: CommitRecord, name: str | None = None) -> None:
        self.location.put(f"commits/{name or record.unit}.json", record.to_json())

    def reseal(self, kind: str, unit: int = 0) -> None:
        """Have the record agree with an object that was changed."""
        data = self.path(kind, unit).read_bytes()
        record = self.record(unit)
        objects = tuple(
            StoredObject(stored.name, len(data), sha256(data)) if stored.name.startswith(kind) else stored
            for stored in record.objects
        )
        self.write(replace(record, objects=objects))

    def rewrite_rows(self, change: Callable[[list[dict[str, Any]]], None], unit: int = 0) -> None:
        """Change the manifest's rows, and have the record agree with the bytes."""
        path = self.path(MANIFEST, unit)
        table = pq.read_table(path)
        rows = table.to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
        self.reseal(MANIFEST, unit)

    def rewrite_members(self, kind: str, change: Callable[[list[tuple[str, bytes]]], object]) -> None:
        """Change the members of a tar, and have the record agree with the bytes."""
        path = self.path(kind)
        data = path.read_bytes()
        members = [(found.name, data[found.offset : found.offset + found.size]) for found in scan(path)[0]]
        change(members)
        write_shard(path, members)
        self.reseal(kind)

    def findings(self) -> list[Finding]:
        return verify(self.location).findings

    def codes(self) -> list[str]:
        return [finding.code for finding in self.findings()]

    def follow(self, finding: Finding) -> None:
        """Do what a remedy says: delete the records it names, restore again."""
        for name in re.findall(rf"{self.folder}/(commits/\S+\.json)", finding.remedy):
            for entry in self.location.glob(name):
                self.location.delete(entry.name)
        assert "run the same 'dr2e restore' again" in finding.remedy
        self.commit()


@pytest.fixture
def place(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> Place:
    return Place(tmp_path / "out", make_unit, context)


def test_a_whole_output_is_well(place: Place) -> None:
    seen: list[Checked] = []
    found = verify(place.location, on_unit=seen.append)
    assert found.findings == []
    assert (found.units, found.read, found.read_before) == (2, 2, 0)
    stored = sum(item.bytes for unit in (0, 1) for item in place.record(unit).objects)
    assert found.bytes == sum(checked.bytes for checked in seen) == stored
    assert [(checked.unit, checked.done, checked.units) for checked in seen] == [(UNITS[0], 1, 2), (UNITS[1], 2, 2)]


def test_nothing_is_well_but_a_run_without_records_is_not(place: Place, tmp_path: Path) -> None:
    assert verify(Location(tmp_path / "nothing")).findings == []
    Output(place.location).start({"config": {}})
    assert place.findings() == []
    for entry in place.location.entries("commits"):
        place.location.delete(entry.name)
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == ("commits", "output.empty")
    assert "6 objects are there that no record names" in finding.message
    place.follow(finding)
    assert place.findings() == []
    (fresh,) = verify(_started(tmp_path / "fresh")).findings
    assert fresh.message == "a run was started here, and nothing is committed"


def _started(folder: Path) -> Location:
    output = Output(folder)
    output.start({"config": {}})
    return output.location


def test_what_lies_around_is_no_concern(place: Place) -> None:
    place.location.put("commits/notes.txt", b"hello")
    place.location.put("commits/old/u.json", b"{}")
    place.location.put("shards/notes.txt", b"hello")
    assert place.findings() == []


@pytest.mark.parametrize("kind", [SHARDS, MANIFEST, REJECTS])
@pytest.mark.parametrize("where", [0.0, 0.31, 0.5, 0.77, 1.0])
def test_one_flipped_byte_anywhere_is_found_and_mended(kind: str, where: float, place: Place) -> None:
    path = place.path(kind)
    name, whole = f"{kind}/{path.name}", path.read_bytes()
    data = bytearray(whole)
    data[round(where * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == (name, "object.changed")
    assert sha256(bytes(data)) in finding.message
    assert f"sha256 {sha256(whole)}, put it back as {path}" in finding.remedy

    path.write_bytes(whole)  # the first half of the remedy
    assert place.findings() == []
    path.write_bytes(data)
    place.follow(finding)  # the second
    assert place.findings() == []
    assert {orphan.name.partition("/")[0] for orphan in Output(place.location).orphans()} == {SHARDS, MANIFEST, REJECTS}


def test_a_flipped_byte_in_a_restored_photo_names_the_photo(place: Place) -> None:
    path = place.path(SHARDS)
    (member,) = (found for found in scan(path)[0] if found.name == "0-two.restored.png")
    data = bytearray(path.read_bytes())
    data[member.offset + member.size - 1] ^= 0x80
    path.write_bytes(data)
    (finding,) = place.findings()
    assert "damaged is '0-two.restored.png'" in finding.message


def test_a_flipped_byte_elsewhere_clears_the_restored_photos(place: Place) -> None:
    path = place.path(SHARDS)
    (member,) = (found for found in scan(path)[0] if found.name == "0-two.json")
    data = bytearray(path.read_bytes())
    data[member.offset] ^= 1
    path.write_bytes(data)
    (finding,) = place.findings()
    assert "none of the pictures is damaged" in finding.message


@pytest.mark.parametrize("kind", [SHARDS, MANIFEST, REJECTS])
def test_a_truncated_or_lost_object_is_found_and_mended(kind: str, place: Place) -> None:
    path = place.path(kind)
    path.write_bytes(path.read_bytes()[:-1])
    (finding,) = place.findings()
    assert (finding.code, finding.subject) == ("object.changed", f"{kind}/{path.name}")
    path.unlink()
    (finding,) = place.findings()
    assert (finding.code, finding.subject) == ("object.missing", f"{kind}/{path.name}")
    place.follow(finding)
    assert place.findings() == []


def test_two_swapped_objects_are_both_found_and_mended(place: Place) -> None:
    one, other = place.path(MANIFEST), place.path(MANIFEST, 1)
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    findings = place.findings()
    assert [finding.code for finding in findings] == ["object.changed"] * 2
    for finding in findings:
        place.follow(finding)
    assert place.findings() == []


def test_a_lost_record_is_found_and_mended(place: Place) -> None:
    place.location.delete(f"commits/{UNITS[1]}.json")
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == ("s.tar", "unit.missing")
    assert "parts [1] of 2" in finding.message
    place.follow(finding)
    assert place.findings() == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "dr2e.commit/1"}', "counts", "objects"], ids=lambda content: str(content)
)
def test_an_unreadable_record_is_found_and_mended(content: bytes | str, place: Place) -> None:
    if isinstance(content, str):
        content = json.dumps({**json.loads(place.record().to_json()), content: [1]}).encode()
    place.location.put(f"commits/{UNITS[0]}.json", content)
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == (f"commits/{UNITS[0]}.json", "commit.unreadable")
    place.follow(finding)
    assert place.findings() == []


def test_a_record_of_another_release_is_not_to_be_deleted(place: Place) -> None:
    place.location.put(f"commits/{UNITS[0]}.json", b'{"format": "dr2e.commit/2"}')
    (finding,) = place.findings()
    assert finding.code == "commit.unreadable"
    assert "release of dr2e that wrote" in finding.remedy and "delete" not in finding.remedy


def test_a_record_under_another_name_is_found_and_mended(place: Place) -> None:
    place.write(place.record(0), UNITS[1])
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == (f"commits/{UNITS[1]}.json", "commit.mismatch")
    assert f"record of {UNITS[0]}" in finding.message
    place.follow(finding)
    assert place.findings() == []


@pytest.mark.parametrize("damage", ["other unit", "other attempt", "twice", "no manifest", "outside"])
def test_a_record_that_names_wrong_objects_is_found(damage: str, place: Place) -> None:
    record = place.record()
    objects = {
        "other unit": place.record(1).objects,
        "other attempt": tuple(replace(o, name=o.name.replace(record.attempt, "00000000")) for o in record.objects),
        "twice": (*record.objects, record.objects[0]),
        "no manifest": tuple(stored for stored in record.objects if not stored.name.startswith(MANIFEST)),
        "outside": (*record.objects, StoredObject("../../etc/passwd", 1, "0" * 64)),
    }[damage]
    place.write(replace(record, objects=objects))
    (finding,) = place.findings()
    assert finding.code == "commit.mismatch"
    place.follow(finding)
    assert place.findings() == []


def test_photos_in_units_of_two_cuts_are_found_and_mended(place: Place) -> None:
    alone = "s-12345678-0000-of-0001"
    commit_unit(place.location, place.make_unit(alone, 0, 1), place.context)
    overlap, repeated = place.findings()
    assert (overlap.subject, overlap.code) == ("s.tar", "unit.overlap")
    assert "as 1 and as 2 units" in overlap.message
    assert (repeated.subject, repeated.code) == ("s.tar", "photo.repeated")
    assert f"4 photos are in {alone} and in {UNITS[0]}: '0-bad', " in repeated.message
    for finding in (overlap, repeated):
        place.follow(finding)
    assert place.findings() == []


def test_a_photo_in_two_parts_is_found_and_mended(place: Place) -> None:
    place.location.delete(f"commits/{UNITS[1]}.json")
    photos = place.make_unit(UNITS[1], 1, 2)
    photos[1].key = "0-none"
    commit_unit(place.location, photos, place.context)
    (finding,) = place.findings()
    assert (finding.code, finding.message) == (
        "photo.repeated",
        f"1 photo is in {UNITS[0]} and in {UNITS[1]}: '0-none'",
    )
    place.follow(finding)
    assert place.findings() == []


def test_a_photo_twice_in_a_unit_is_found(place: Place) -> None:
    def repeat(rows: list[dict[str, Any]]) -> None:
        rows[3]["key"] = rows[2]["key"]

    place.rewrite_rows(repeat)
    (finding,) = (finding for finding in place.findings() if finding.code == "photo.repeated")
    assert finding.message == f"1 photo is twice in {UNITS[0]}: '0-bad'"
    place.follow(finding)
    assert place.findings() == []


def test_a_later_attempt_at_rejected_photos_repeats_none(place: Place) -> None:
    retried = f"{UNITS[0]}.retry1"

    def commit_retry(key: str) -> None:
        photo = next(photo for photo in place.make_unit(retried, 0, 2) if photo.status == "no_face")
        photo.key, photo.image_name, photo.index, photo.unit_size = key, f"{key}.png", 0, 1
        photo.sidecars = []
        commit_unit(place.location, [photo], place.context)

    commit_retry("0-bad")
    assert place.findings() == []
    place.location.delete(f"commits/{retried}.json")
    commit_retry("0-two")
    (finding,) = place.findings()
    assert finding.message == f"1 photo is in {UNITS[0]} and in {retried}: '0-two'"
    place.follow(finding)
    assert place.findings() == []


def test_a_remedy_names_every_record_that_rests_on_one(place: Place) -> None:
    unit, first, second = UNITS[0], f"{UNITS[0]}.retry1", f"{UNITS[0]}.retry2"
    remedies = Remedies("out", [*UNITS, first, second])
    of_unit = remedies.redo([unit], "s.tar")
    assert [name for name in (unit, first, second) if f"out/commits/{name}.json" in of_unit] == [unit, first, second]
    assert "dr2e restore" in of_unit and "dr2e retry" in of_unit
    of_attempt = remedies.redo([first])
    assert [name for name in (unit, first, second) if f"out/commits/{name}.json" in of_attempt] == [first, second]
    assert "dr2e restore" not in of_attempt and "dr2e retry" in of_attempt
    assert "dr2e retry" not in remedies.redo([UNITS[1]])
    cut = "s-12345678-*-of-0002"
    assert f"commits/{cut}.retry*.json" in remedies.one_cut([cut], "s.tar")
    assert "retry" not in Remedies("out", UNITS).one_cut([cut], "s.tar")


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("unit", 0, "another", "has the unit 'another'"),
        ("shard", 1, "t.tar", "has the shard 't.tar'"),
        ("part", 1, 7, "has the part '7'"),
        ("index", 3, 7, "are not the photos 0, 1"),
        ("status", 1, "rejected", "0 no_face in the manifest, 1 in the commit record"),
        ("status", 1, "pending", "the status 'pending'"),
        ("error", 2, "image.odd", "'image.odd': 1"),
        ("faces", 0, [], "0 faces in the manifest, 2 in the commit record"),
    ],
)
def test_a_manifest_that_does_not_fit_the_record_is_found_and_mended(
    column: str, row: int, value: object, said: str, place: Place
) -> None:
    place.rewrite_rows(lambda rows: rows[row].update({column: value}))
    findings = place.findings()
    assert all(finding.subject == UNITS[0] for finding in findings)
    (finding, *_) = (finding for finding in findings if said in finding.message)
    assert finding.code == "manifest.mismatch"
    place.follow(finding)
    assert place.findings() == []


def test_a_manifest_that_is_none_is_found_and_mended(place: Place) -> None:
    place.path(MANIFEST).write_bytes(b"PAR1 no parquet PAR1")
    place.reseal(MANIFEST)
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == (UNITS[0], "manifest.unreadable")
    place.follow(finding)
    assert place.findings() == []


@pytest.mark.parametrize("kind", [SHARDS, REJECTS])
def test_an_object_the_record_does_not_name_is_missed(kind: str, place: Place) -> None:
    record = place.record()
    place.write(replace(record, objects=tuple(o for o in record.objects if not o.name.startswith(kind))))
    (finding,) = place.findings()
    assert finding.code == "manifest.mismatch" and f"photos for {kind}/" in finding.message
    place.follow(finding)
    assert place.findings() == []


def _drop(name: str) -> Callable[[list[tuple[str, bytes]]], None]:
    def change(members: list[tuple[str, bytes]]) -> None:
        members[:] = [member for member in members if member[0] != name]

    return change


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SHARDS, "0-two.restored.png"),
        (SHARDS, "0-two.face01.png"),
        (SHARDS, "0-none.png"),
        (REJECTS, "0-bad.error.json"),
    ],
)
def test_a_member_that_lacks_is_found_and_mended(kind: str, name: str, place: Place) -> None:
    place.rewrite_members(kind, _drop(name))
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == (UNITS[0], "member.missing")
    assert f"lacks '{name}'" in finding.message
    place.follow(finding)
    assert place.findings() == []


@pytest.mark.parametrize("name", ["0-two.restored.png", "0-none.png"])
@pytest.mark.parametrize("data", [b"\0", b"", None], ids=["short", "empty", "as long"])
def test_a_result_that_is_another_is_found(name: str, data: bytes | None, place: Place) -> None:
    def change(members: list[tuple[str, bytes]]) -> None:
        at = [member[0] for member in members].index(name)
        members[at] = (name, members[at][1][::-1] if data is None else data)

    place.rewrite_members(SHARDS, change)
    (finding,) = place.findings()
    assert finding.code == "member.changed" and f"'{name}'" in finding.message
    place.follow(finding)
    assert place.findings() == []


def test_a_member_twice_is_found_in_a_shard_alone(place: Place) -> None:
    place.rewrite_members(SHARDS, lambda members: members.append(members[0]))
    (finding,) = place.findings()
    assert finding.code == "member.repeated" and "'0-two.png'" in finding.message
    place.follow(finding)
    place.rewrite_members(REJECTS, lambda members: members.append(members[0]))
    assert place.findings() == []


@pytest.mark.parametrize("harm", ["cut", "more"])
def test_a_tar_that_was_committed_broken_is_found_and_mended(harm: str, place: Place) -> None:
    path = place.path(SHARDS)
    data = path.read_bytes()
    last = scan(path)[0][-1]
    path.write_bytes(data[: last.offset + 1024] if harm == "cut" else data + data)
    place.reseal(SHARDS)
    (finding,) = place.findings()
    assert (finding.subject, finding.code) == (UNITS[0], "tar.damaged")
    place.follow(finding)
    assert place.findings() == []


class ReadOnly(Location):
    """A place that may be listed and read. refuse: a part of names that may not even be."""

    refuse = "\0"

    def put(self, name: str, body: bytes | Path) -> None:
        raise AssertionError("verify writes")

    def put_if_absent(self, name: str, body: bytes) -> bool:
        raise AssertionError("verify writes")

    def delete(self, name: str) -> None:
        raise AssertionError("verify deletes")

    def read_range(self, name: str, start: int, end: int) -> bytes:
        if self.refuse in name:
            raise StorageError(f"cannot read {name}: Input/output error")
        return super().read_range(name, start, end)


def test_nothing_is_written(place: Place) -> None:
    assert verify(ReadOnly(place.folder)).findings == []


def test_an_object_that_cannot_be_read_is_a_finding_and_the_rest_is_read(place: Place) -> None:
    location = ReadOnly(place.folder)
    location.refuse = f"shards/{place.path(SHARDS).name}"
    found = verify(location)
    (finding,) = found.findings
    assert (finding.subject, finding.code) == (f"shards/{place.path(SHARDS).name}", "object.unreadable")
    assert "Input/output error" in finding.message and "run 'dr2e verify' again" in finding.remedy
    assert found.read == 2


def test_storage_that_goes_on_refusing_ends_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.verification.whole._GIVE_UP", 2)
    location = ReadOnly(place.folder)
    location.refuse = "shards/"
    with pytest.raises(StorageError, match=r"2 units in a row could not be read; .*Input/output error"):
        verify(location)


def test_an_object_that_becomes_shorter_while_it_is_read_is_found(place: Place) -> None:
    class Shrinking(Location):
        def read_range(self, name: str, start: int, end: int) -> bytes:
            return super().read_range(name, start, end)[:1000] if start == 0 else b""

    codes = {finding.code for finding in verify(Shrinking(place.folder)).findings}
    assert codes == {"object.changed"}


def test_it_reads_from_s3_what_it_reads_from_disk(s3: Any, make_unit: MakeUnit, context: CommitContext) -> None:
    location = Location(s3.folder(), s3.options)
    record = commit_unit(location, make_unit(), context).record
    found = verify(location)
    assert (found.findings, found.bytes) == ([], sum(stored.bytes for stored in record.objects))
    shard = record.object(SHARDS)
    assert shard is not None
    data = bytearray(location.read(shard.name))
    data[len(data) // 2] ^= 1
    location.put(shard.name, bytes(data))
    assert [finding.subject for finding in verify(location).findings] == [shard.name]
    location.delete(shard.name)
    assert [finding.code for finding in verify(location).findings] == ["object.missing"]


def test_several_processes_find_what_one_does(
    s3: Any, make_unit: MakeUnit, context: CommitContext, tmp_path: Path
) -> None:
    location = Location(s3.folder(), s3.options)
    units = [f"s-12345678-{part:04d}-of-0008" for part in range(8)]
    records = [commit_unit(location, make_unit(unit, part, 8), context).record for part, unit in enumerate(units)]
    for record, kind in ((records[2], SHARDS), (records[5], MANIFEST)):
        stored = record.object(kind)
        assert stored is not None
        location.put(stored.name, location.read(stored.name)[:-1] + b"x")
    location.delete(commit_name(units[6]))
    alone = verify(location, processes=1)
    assert len(alone.findings) == 3 and alone.read == 7
    shown: list[str] = []
    with Journal(tmp_path / "j", location.url) as journal:
        together = verify(location, journal=journal, on_unit=lambda checked: shown.append(checked.unit), processes=2)
    assert together == alone
    assert shown == [unit for unit in units if unit != units[6]], "in order, as its journal is"
    with Journal(tmp_path / "j", location.url) as journal:
        again = verify(location, journal=journal, processes=3)
    assert (again.read, again.read_before, again.findings) == (2, 5, alone.findings)


def test_a_sample_reads_some_units_and_looks_for_all(place: Place) -> None:
    read: list[str] = []

    class Watched(Location):
        def read_range(self, name: str, start: int, end: int) -> bytes:
            read.append(name)
            return super().read_range(name, start, end)

    found = verify(Watched(place.folder), Sample(count=1, seed=1))
    assert (found.units, found.read, found.findings) == (2, 1, [])
    (unit,) = Sample(count=1, seed=1).draw(UNITS)
    assert read and all(unit in name for name in read)

    other = 1 - UNITS.index(unit)
    path = place.path(SHARDS, other)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    assert verify(place.location, Sample(count=1, seed=1)).findings == [], "its bytes are not read"
    path.write_bytes(data[:-1])
    assert [f.code for f in verify(place.location, Sample(count=1, seed=1)).findings] == ["object.changed"]


def test_samples_are_fair_and_repeat() -> None:
    units = [f"u{number}" for number in range(20)]
    drawn = [Sample(count=5, seed=seed).draw(units) for seed in range(400)]
    assert drawn[3] == Sample(count=5, seed=3).draw(reversed(units))
    assert all(len(sample) == 5 for sample in drawn)
    assert all(60 < sum(unit in sample for sample in drawn) < 140 for unit in units), "100 each, more or less"
    assert len(Sample.parse("5%").draw(units)) == 1
    assert len(Sample.parse("11%").draw(units)) == 3, "rounded up"
    assert Sample.parse("99").draw(units) == set(units)
    assert Sample.parse("1%").draw([]) == set()
    for wrong in ("0", "-1", "0%", "101%", "many", "", "%", "nan%", "1.5"):
        with pytest.raises(ValueError, match="is no sample"):
            Sample.parse(wrong)


def test_keys_are_forgotten_with_their_shard() -> None:
    units = [f"s{shard:02d}-12345678-{part:04d}-of-0002" for shard in range(50) for part in range(2)]
    keys = Keys(units, Remedies("out"))
    most = 0
    for unit in units:
        assert keys.add(unit, "s.tar", [(f"{unit}-{photo}", True) for photo in range(10)]) == []
        most = max(most, keys.held)
    assert most == 20 and keys.held == 0


def test_a_remedy_can_be_pasted(place: Place) -> None:
    place.path(SHARDS).unlink()
    (finding,) = place.findings()
    assert f"delete {place.folder}/commits/{UNITS[0]}.json," in finding.remedy
    assert "the input still has s.tar" in finding.remedy


def test_a_copied_output_is_as_well_as_its_original(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.folder, tmp_path / "copy")
    assert verify(Location(tmp_path / "copy")).findings == []


def test_long_names_and_large_members_are_streamed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks smaller than members, names that need a header of their own: as `scan` of the whole file has it."""
    monkeypatch.setattr("pipeline.verification.stream.BLOCK", 700)
    assert place.findings() == []

    def add(members: list[tuple[str, bytes]]) -> None:
        members.append((f"0-two.{'x' * 300}.bin", bytes(5000)))

    place.rewrite_members(SHARDS, add)
    with tarfile.open(fileobj=io.BytesIO(place.path(SHARDS).read_bytes())) as archive:
        assert max(map(len, archive.getnames())) > 300
    assert place.findings() == []
    data = bytearray(place.path(SHARDS).read_bytes())
    (member,) = (found for found in scan(place.path(SHARDS))[0] if found.name == "0-two.restored.png")
    data[member.offset + member.size // 2] ^= 1
    place.path(SHARDS).write_bytes(data)
    (finding,) = place.findings()
    assert "damaged is '0-two.restored.png'" in finding.message
