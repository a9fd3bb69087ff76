"""Later attempts at rejected photos, and what readers make of them when records were deleted or done anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.retry import describe_summary, summarise
from pipeline.blocks import from_block
from pipeline.commit import CommitContext, commit_unit
from pipeline.ledger import MANIFEST, LedgerError
from pipeline.output import Output, Status
from pipeline.records import Photo
from pipeline.replay import Attempt, Plan, make_plan, read_attempt
from pipeline.report.gather import gather
from pipeline.storage import Location
from pipeline.units import retry_id
from pipeline.unpacking import unpack

MakeUnit = Callable[..., list[Photo]]

UNIT = "s-12345678-0000-of-0001"
RETRY = f"{UNIT}.retry1"


class Place:
    """An output of one unit, whose photos are "a" to "d", and ways to do some of them again without Ray."""

    def __init__(self, folder: Path, make_unit: MakeUnit, context: CommitContext) -> None:
        self.output = Output(folder)
        self.make_unit, self.context = make_unit, context

    def photos(self, rejected: Collection[str]) -> list[Photo]:
        """The unit, of which some photos are rejected: the others have no face, but "a" has one."""
        two, none, *_ = self.make_unit(UNIT)
        photos = []
        for index, key in enumerate("abcd"):
            photo = replace(two if key == "a" else none, key=key, index=index, image_name=f"{key}.png")
            photo.sidecars = [(f"{key}.txt", b"caption")]
            if key in rejected:
                photo.reject("image.truncated", "it ends early")
            photos.append(photo)
        return photos

    def restore(self, rejected: Collection[str]) -> None:
        """Do the unit, or do it anew."""
        self.output.location.delete(f"commits/{UNIT}.json")
        commit_unit(self.output.location, self.photos(rejected), self.context)

    def planned(self) -> set[str]:
        return {photo.key for attempt in make_plan(self.output).attempts for photo in attempt.photos}

    def read(self, attempt: Attempt) -> list[Photo]:
        (block,) = read_attempt(attempt, self.output.location)
        return from_block(block)

    def retry(self, again: Collection[str] = (), settings: dict[str, Any] | None = None) -> Plan:
        """Do what is planned; photos of `again` are rejected once more, with another code, the rest has no face."""
        plan = make_plan(self.output)
        self.do(plan, again, settings)
        return plan

    def do(self, plan: Plan, again: Collection[str] = (), settings: dict[str, Any] | None = None) -> None:
        for attempt in plan.attempts:
            photos = self.read(attempt)
            for photo in photos:
                photo.status = "no_face"
                if photo.key in again:
                    photo.reject("image.too_large", "it is too large")
            commit_unit(self.output.location, photos, replace(self.context, settings=settings or {}))

    def counts(self) -> tuple[int, int, int, int]:
        counts = self.output.status().counts
        return counts["photos"], counts["restored"], counts["no_face"], counts["rejected"]

    def unpacked(self, folder: Path) -> tuple[int, int, int, int]:
        counts = unpack(self.output, Location(folder))
        return counts.restored, counts.no_face, counts.present, counts.rejected


@pytest.fixture
def place(tmp_path: Path, make_unit: MakeUnit, context: CommitContext) -> Place:
    return Place(tmp_path / "out", make_unit, context)


def test_attempts_are_named_after_the_unit() -> None:
    assert retry_id(UNIT, 1) == RETRY
    assert retry_id(RETRY, 2) == f"{UNIT}.retry2"


def test_each_photo_counts_as_what_came_of_it_last(place: Place, tmp_path: Path) -> None:
    place.restore(rejected="bc")
    place.retry(again="c")
    status = place.output.status()
    assert place.counts() == (4, 1, 2, 1) and status.errors == {"image.too_large": 1}
    assert (status.units, status.units_open, status.counts["faces"]) == (1, 0, 2)
    assert place.planned() == {"c"}
    place.retry()
    assert place.counts() == (4, 1, 3, 0)
    assert place.output.committed() == {UNIT, RETRY, f"{UNIT}.retry2"}
    assert place.output.verify() == [] and place.planned() == set()
    assert place.unpacked(tmp_path / "files") == (1, 3, 0, 0)
    assert place.unpacked(tmp_path / "files") == (0, 0, 4, 0), "unpacking again goes on"


def test_a_unit_whose_own_record_is_gone_is_missed(place: Place) -> None:
    place.restore(rejected="bc")
    place.retry(again="c")
    place.output.location.delete(f"commits/{UNIT}.json")
    (finding,) = place.output.verify()
    assert (finding.code, finding.subject, finding.message) == (
        "unit.missing",
        "s.tar",
        "parts [0] of 1 are not committed",
    )
    assert f"delete {place.output.location.url}/commits/{RETRY}.json, and run the same 'dr2e restore'" in finding.remedy
    status = place.output.status()
    assert place.counts() == (2, 0, 1, 1), "what is there, and nothing negative"
    assert (status.units, status.units_open, status.errors) == (0, 1, {"image.too_large": 1})
    assert {attempt.unit for attempt in make_plan(place.output).attempts} == {f"{UNIT}.retry2"}

    place.output.location.delete(f"commits/{RETRY}.json")  # the remedy
    place.restore(rejected="b")
    place.retry()
    assert place.output.verify() == [] and place.counts() == (4, 1, 3, 0)


def test_a_unit_done_anew_may_reject_another_photo(place: Place) -> None:
    place.restore(rejected="b")
    place.retry()
    place.restore(rejected="c")
    assert place.counts() == (4, 1, 2, 1) and place.output.status().errors == {"image.truncated": 1}
    assert place.planned() == {"c"}
    assert gather(place.output).photos == {"restored": 1, "no_face": 2, "rejected": 1}


def test_a_unit_done_anew_may_reject_nothing(place: Place, tmp_path: Path) -> None:
    place.restore(rejected="ab")
    place.retry()
    place.restore(rejected="")
    assert place.counts() == (4, 0, 4, 0) and place.output.status().counts["faces"] == 0
    assert place.unpacked(tmp_path / "files") == (0, 4, 0, 0)
    assert len(list((tmp_path / "files").iterdir())) == 4
    (finding,) = place.output.verify()
    assert finding.code == "photo.repeated" and all(f"commits/{name}.json" in finding.remedy for name in (UNIT, RETRY))


def test_a_result_behind_which_an_older_attempt_stands_is_found(place: Place) -> None:
    place.restore(rejected="b")
    place.retry(again="b")
    place.retry()
    assert place.output.verify() == []
    place.output.location.delete(f"commits/{UNIT}.retry2.json")
    place.restore(rejected="")
    (finding,) = place.output.verify()
    assert (finding.code, finding.message) == ("photo.repeated", f"1 photo is in {UNIT} and in {RETRY}: 'b'")


def test_counting_reads_manifests_only_where_photos_were_tried_again(place: Place) -> None:
    place.restore(rejected="")
    whole = Watched(place.output.location.url)
    assert isinstance(whole.status(), Status) and make_plan(whole).attempts == () and whole.read == []
    place.restore(rejected="b")
    once = Watched(place.output.location.url)
    assert once.status().counts["rejected"] == 1 and once.read == []
    place.retry()
    again = Watched(place.output.location.url)
    assert again.status().counts["rejected"] == 0 and sorted(again.read) == [UNIT, RETRY]


class Watched(Output):
    """Notes whose manifests are read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read: list[str] = []

    def manifest(self, record: Any, columns: Any = None) -> pa.Table:
        self.read.append(record.unit)
        return super().manifest(record, columns)


def test_a_manifest_that_is_none_is_named(place: Place) -> None:
    place.restore(rejected="b")
    place.retry()
    stored = place.output.record(RETRY).object(MANIFEST)
    assert stored is not None
    place.output.location.put(stored.name, b"PAR1 no parquet PAR1")
    with pytest.raises(LedgerError, match=rf"{stored.name} is no manifest: .*run 'dr2e verify'"):
        place.output.status()


def test_the_remedy_for_a_damaged_attempt_repeats_its_settings(place: Place) -> None:
    place.restore(rejected="b")
    place.retry(settings={"limits.max_pixels": 900})
    stored = place.output.record(RETRY).object(MANIFEST)
    assert stored is not None
    place.output.location.delete(stored.name)
    (finding,) = place.output.verify()
    assert f"run 'dr2e retry {place.output.location.url} --set limits.max_pixels=900' again" in finding.remedy


def test_a_photo_comes_back_with_its_own_members_only(place: Place) -> None:
    """Its shard's reason is named as a member of it is, and the input may bring a reason of its own."""
    photos = place.photos(rejected="bd")
    shard = replace(photos[2], key="b.tar", image_name="", image=b"", sidecars=[])
    shard.reject("shard.truncated", "the archive ends early")
    earlier = json.dumps({"format": "dr2e.error/1", "key": "d", "members": ["d.png"]}).encode()
    photos[3].sidecars = [("d.error.json", earlier), ("d.txt", b"caption")]
    photos = [*photos, shard]
    for index, photo in enumerate(photos):
        photo.index, photo.unit_size = index, len(photos)
    commit_unit(place.output.location, photos, place.context)
    (attempt,) = make_plan(place.output).attempts
    b, d = place.read(attempt)
    assert (b.image_name, b.sidecars) == ("b.png", [("b.txt", b"caption")])
    assert (d.image_name, d.sidecars) == ("d.png", [("d.error.json", earlier), ("d.txt", b"caption")])


def test_of_two_retries_at_a_time_the_beaten_one_says_what_it_did_not_try(place: Place) -> None:
    place.restore(rejected="bcd")
    plan = make_plan(place.output)
    (attempt,) = plan.attempts
    winner = replace(plan, attempts=(replace(attempt, photos=attempt.photos[:2]),))
    beaten = replace(plan, attempts=(replace(attempt, photos=attempt.photos[1:]),))
    place.do(winner, again="b")
    place.do(beaten)  # finds the record and leaves it

    first = summarise(place.output, winner, {})
    assert (first.tried, first.no_face, first.rejected, first.beaten) == ({"image.truncated": 2}, 1, 1, 0)
    second = summarise(place.output, beaten, {})
    assert (second.tried, second.no_face, second.rejected, second.beaten) == ({"image.truncated": 1}, 1, 0, 1)
    assert "1 photos: another retry was at their units at the same time; run it again" in describe_summary(second)
    assert "another retry" not in describe_summary(first)

    other = summarise(place.output, winner, {"limits.max_pixels": 900})
    assert (other.no_face, other.rejected, other.beaten) == (1, 0, 1), "rejected under other settings than these"
