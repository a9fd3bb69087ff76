"""What gc finds, what it leaves alone, and that it takes nothing anybody names."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import s3fs

from pipeline.commit import CommitContext, commit_unit
from pipeline.garbage import Findings, delete_garbage, find_garbage, unit_of_object
from pipeline.ledger import CommitRecord, LedgerError
from pipeline.output import Output
from pipeline.records import Photo
from pipeline.storage import Location, StorageError
from pipeline.verification import verify

MakeUnit = Callable[..., list[Photo]]

DAY = timedelta(hours=24)
UNIT = "s-12345678-0000-of-0002"
OPEN = "s-12345678-0001-of-0002"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> Location:
    """An output with one committed unit."""
    if request.param == "local":
        location = Location(tmp_path / "out")
    else:
        server = request.getfixturevalue("s3")
        location = Location(server.folder(), server.options)
    commit_unit(location, make_unit(UNIT, 0, 2), context)
    return location


@pytest.fixture
def local(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> Location:
    location = Location(tmp_path / "out")
    commit_unit(location, make_unit(UNIT, 0, 2), context)
    return location


def _names(found: Findings) -> list[tuple[str, str]]:
    return [(garbage.kind, garbage.name) for garbage in found.garbage]


def _age(location: Location, name: str, hours: float) -> None:
    path = Path(location.url) / name
    written = time.time() - hours * 3600
    os.utime(path, (written, written))


def _collect(location: Location, older_than: timedelta = timedelta(0)) -> Findings:
    found = find_garbage(location, older_than)
    delete_garbage(location, found)
    return found


def test_a_whole_output_has_no_garbage(place: Location) -> None:
    found = find_garbage(place, timedelta(0))
    assert (found.units, found.garbage, found.kept, found.foreign, found.complaint) == (1, [], [], [], "")


def test_orphans_are_found_and_deleted_only_when_asked(place: Location) -> None:
    before = place.entries()
    orphans = [
        f"manifest/{OPEN}-00000000.parquet",
        f"rejects/{OPEN}-00000000.tar",
        f"shards/{UNIT}-ffffffff.tar",  # a beaten attempt's
        f"shards/{OPEN}-00000000.tar",
    ]
    for name in orphans:
        place.put(name, b"x" * 100)
    found = find_garbage(place, timedelta(0))
    assert _names(found) == [("orphan", name) for name in orphans]
    assert sum(garbage.bytes for garbage in found.garbage) == 400
    assert len(place.entries()) == len(before) + 4, "a dry run"

    gone: list[str] = []
    delete_garbage(place, found, lambda garbage: gone.append(garbage.name))
    assert [garbage.name for garbage in found.deleted] == gone == orphans
    assert place.entries() == before
    assert [finding.code for finding in verify(place).findings] == ["unit.missing"]


def test_what_is_young_is_kept(place: Location) -> None:
    name = f"shards/{OPEN}-00000000.tar"
    place.put(name, b"of a run under way")
    found = _collect(place, DAY)
    assert (found.garbage, [kept.name for kept in found.kept]) == ([], [name])
    assert place.exists(name)


def test_the_age_decides_also_for_committed_units(local: Location) -> None:
    for attempt, hours in (("00000001", 23.9), ("00000002", 24.1)):
        local.put(f"shards/{UNIT}-{attempt}.tar", b"beaten")
        _age(local, f"shards/{UNIT}-{attempt}.tar", hours)
    found = _collect(local, DAY)
    assert _names(found) == [("orphan", f"shards/{UNIT}-00000002.tar")]
    assert [kept.name for kept in found.kept] == [f"shards/{UNIT}-00000001.tar"]


@pytest.mark.parametrize("modified", [None, datetime.now(UTC) + DAY], ids=["unknown", "in the future"])
def test_what_has_no_age_is_kept(modified: datetime | None, local: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage._moment", lambda value: modified)
    local.put(f"shards/{OPEN}-00000000.tar", b"since when?")
    found = _collect(local)
    assert (found.garbage, len(found.kept)) == ([], 1)


FOREIGN = [
    "commits/notes.txt",
    f"manifest/{OPEN}-00000000.tar",
    "rejects/mine.tar",
    f"shards/{OPEN}-00000000.parquet",
    f"shards/{OPEN}-00000000.tar.bak",
    f"shards/{OPEN}-0000000.tar",
    f"shards/{OPEN}-0000000G.tar",
    f"shards/deeper/{OPEN}-00000000.tar",
    "shards/notes.txt",
    "shards/photos-00000000.tar",
]


def test_what_is_not_ours_is_named_and_left_alone(place: Location) -> None:
    for name in [*FOREIGN, "restored/photo.png", "notes.txt"]:
        place.put(name, b"precious")
    found = _collect(place)
    assert (found.garbage, found.foreign) == ([], sorted(FOREIGN))
    assert all(place.read(name) == b"precious" for name in [*FOREIGN, "restored/photo.png", "notes.txt"])


def test_names_of_objects_are_those_that_a_commit_gives() -> None:
    assert unit_of_object(f"shards/{UNIT}-0a1b2c3d.tar") == UNIT
    assert unit_of_object(f"manifest/{UNIT}.retry1-0a1b2c3d.parquet") == f"{UNIT}.retry1"
    for name in [
        *FOREIGN,
        f"../shards/{UNIT}-0a1b2c3d.tar",
        f"/shards/{UNIT}-0a1b2c3d.tar",
        f"shards/{UNIT}-0a1b2c3d.tar\n",
    ]:
        assert unit_of_object(name) is None


def test_unfinished_files_and_probes_are_garbage(local: Location) -> None:
    folder = Path(local.url)
    leftovers = [
        ("probe", f".probe-{'0' * 16}"),
        ("unfinished", ".0123456789abcdef.tmp"),
        ("unfinished", "commits/.0123456789abcdef.tmp"),
        ("unfinished", "shards/.0123456789abcdef.tmp"),
    ]
    others = [".probe-mine", "shards/.hidden", "shards/.notes.tmp", "shards/x.0123456789abcdef.tmp"]
    for name in [*(name for _, name in leftovers), *others]:
        (folder / name).write_bytes(b"half")
    for _, name in leftovers:
        _age(local, name, 25)
    found = _collect(local, DAY)
    assert sorted(_names(found)) == sorted(leftovers)
    assert not any((folder / name).exists() for _, name in leftovers)
    assert all((folder / name).exists() for name in others)

    (folder / leftovers[3][1]).write_bytes(b"half")
    assert len(_collect(local, DAY).kept) == 1, "somebody is writing it"


def test_a_probe_left_on_s3_is_garbage(s3: Any) -> None:
    location = Location(s3.folder(), s3.options)
    location.put(f".probe-{'0' * 16}", b"first")
    assert _names(_collect(location)) == [("probe", f".probe-{'0' * 16}")]
    assert location.entries() == []


def test_records_of_any_name_count(place: Location, make_unit: MakeUnit, context: CommitContext) -> None:
    record = commit_unit(place, make_unit(f"{UNIT}.retry1", 0, 2), context).record
    orphan = f"shards/{UNIT}.retry1-00000000.tar"
    place.put(orphan, b"beaten")
    assert _names(_collect(place)) == [("orphan", orphan)]
    assert all(place.exists(stored.name) for stored in record.objects)


def test_a_record_that_cannot_be_read_stops_everything(place: Location) -> None:
    place.put(f"shards/{OPEN}-00000000.tar", b"orphan?")
    place.put(f"commits/{OPEN}.json", b"{")
    with pytest.raises(LedgerError, match=r"may name anything.*run 'dr2e verify'"):
        find_garbage(place, timedelta(0))
    assert place.exists(f"shards/{OPEN}-00000000.tar")


class Racing(Location):
    """Something happens right after the objects have been listed, or right before one is deleted."""

    after_listing: Callable[[], object] | None = None

    def entries(self, prefix: str = "") -> list[Any]:
        if prefix == "commits" and self.after_listing is not None:
            happen, self.after_listing = self.after_listing, None
            happen()
        return super().entries(prefix)


def _hold_back(location: Location, unit: str, make_unit: MakeUnit, context: CommitContext) -> CommitRecord:
    """The objects of an attempt that has not created its record yet, long ago."""
    record = commit_unit(location, make_unit(unit, 1, 2), context).record
    location.delete(f"commits/{unit}.json")
    for stored in record.objects:
        _age(location, stored.name, 48)
    return record


def test_what_is_named_after_the_listing_is_no_garbage(
    local: Location, make_unit: MakeUnit, context: CommitContext
) -> None:
    record = _hold_back(local, OPEN, make_unit, context)
    racing = Racing(local.url)
    racing.after_listing = lambda: local.put(f"commits/{OPEN}.json", record.to_json())
    assert _collect(racing, DAY).garbage == []
    assert racing.after_listing is None, "it did happen"
    assert verify(local).findings == []


def test_what_is_named_after_it_was_found_is_not_deleted(
    local: Location, make_unit: MakeUnit, context: CommitContext
) -> None:
    record = _hold_back(local, OPEN, make_unit, context)
    found = find_garbage(local, DAY)
    assert {name for _, name in _names(found)} == {stored.name for stored in record.objects}
    local.put(f"commits/{OPEN}.json", record.to_json())
    delete_garbage(local, found)
    assert found.deleted == []
    assert verify(local).findings == []


def test_a_run_that_goes_on_loses_nothing(local: Location, make_unit: MakeUnit, context: CommitContext) -> None:
    """Units are committed, with old garbage among them, while it is collected again and again."""
    count, limit = 40, timedelta(seconds=60)
    ended = threading.Event()

    def run() -> None:
        for part in range(count):
            unit = f"run-12345678-{part:04d}-of-{count:04d}"
            local.put(f"shards/{unit}-00000000.tar", b"interrupted")
            _age(local, f"shards/{unit}-00000000.tar", 1)
            commit_unit(local, make_unit(unit, part, count), context)
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    deleted: list[str] = []
    rounds = 0
    while not ended.is_set() or rounds == 0:
        deleted += [garbage.name for garbage in _collect(local, limit).deleted]
        rounds += 1
    thread.join()
    deleted += [garbage.name for garbage in _collect(local, limit).deleted]
    assert rounds > 1
    assert len(deleted) == count and all("-00000000.tar" in name for name in deleted)
    found = verify(local)
    assert [finding.code for finding in found.findings] == ["unit.missing"], "the fixture's"
    assert found.units == count + 1


def _abandon(server: Any, location: Location, name: str) -> None:
    """Begin a multipart upload below a location, send five megabytes, and never come back."""
    client = s3fs.S3FileSystem(**server.options, skip_instance_cache=True)
    bucket, key, _ = client.split_path(f"{location.url}/{name}")
    upload = client.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    client.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=bytes(5 * 2**20))


def test_abandoned_uploads_are_found_and_aborted(s3: Any) -> None:
    location = Location(s3.folder(), s3.options)
    sibling = Location(f"{location.url}-other", s3.options)
    name = f"shards/{OPEN}-00000000.tar"
    _abandon(s3, location, name)
    _abandon(s3, location, "shards/mine.bin")
    _abandon(s3, sibling, name)
    assert find_garbage(location, DAY).kept != []
    found = find_garbage(location, timedelta(0))
    assert [(g.kind, g.name, g.bytes) for g in found.garbage] == [("upload", name, 5 * 2**20)]
    assert found.foreign == ["shards/mine.bin (an unfinished upload)"]
    assert len(location.uploads()) == 2, "a dry run"
    delete_garbage(location, found)
    delete_garbage(location, found)  # there being none any more is fine
    assert [upload.name for upload in location.uploads()] == ["shards/mine.bin"]
    assert len(sibling.uploads()) == 1


def test_uploads_are_listed_page_by_page(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location(s3.folder(), s3.options)
    names = [f"shards/{OPEN}-0000000{number}.tar" for number in range(3)]
    for name in names:
        _abandon(s3, location, name)
    call = s3fs.S3FileSystem.call_s3
    pages = []

    def small_pages(self: Any, method: str, **arguments: Any) -> Any:
        if method == "list_multipart_uploads":
            arguments["MaxUploads"] = 1
            pages.append(arguments)
        return call(self, method, **arguments)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", small_pages)
    assert [upload.name for upload in location.uploads()] == names
    assert len(pages) >= 3


def test_uploads_that_may_not_be_listed_do_not_spoil_the_rest(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Location) -> list[Any]:
        raise StorageError("cannot list the unfinished uploads: Access Denied")

    monkeypatch.setattr(Location, "uploads", refuse)
    place.put(f"shards/{OPEN}-00000000.tar", b"orphan")
    found = _collect(place)
    assert len(found.deleted) == 1 and "Access Denied" in found.complaint


def test_an_entry_tells_its_age_and_is_compared_without_it(place: Location) -> None:
    (entry, *_) = place.entries("shards")
    stat = place.stat(entry.name)
    assert stat is not None and entry.modified is not None and stat.modified is not None
    for modified in (entry.modified, stat.modified):
        assert abs(datetime.now(UTC) - modified) < timedelta(minutes=5)
    assert entry == stat


def test_progress_counts_records(place: Location) -> None:
    seen: list[tuple[int, int]] = []
    find_garbage(place, DAY, lambda done, records: seen.append((done, records)))
    assert seen == [(1, 1)]


def test_orphans_of_an_output_are_of_any_age(place: Location) -> None:
    place.put(f"shards/{OPEN}-00000000.tar", b"orphan")
    assert [orphan.name for orphan in Output(place).orphans()] == [f"shards/{OPEN}-00000000.tar"]
