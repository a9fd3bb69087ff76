"""Files to shards and back: no name lost, none merged, none outside the destination."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from jobs.pack import command as pack_command
from jobs.unpack import command as unpack_command
from operators.detect.align import FFHQ_512, align
from operators.images import decode, encode_png
from pipeline.commit import CommitContext, commit_unit
from pipeline.filenames import SOURCE, keys_of, source_member, source_name
from pipeline.inputs import InputError, resolve_inputs
from pipeline.ledger import SHARDS, LedgerError
from pipeline.output import Output
from pipeline.packing import pack
from pipeline.records import Face, Photo
from pipeline.shards import index_shard, read_samples
from pipeline.storage import Location
from pipeline.tar import write_shard
from pipeline.units import cut, read_unit
from pipeline.unpacking import FileTaken, unpack

NAMES = [
    "a.jpg",
    "a.png",
    "a.JPG",
    "a~jpg.jpg",
    "x.y.jpg",
    "x.z.jpg",
    "x%2Ey.jpg",
    "deep/er/x.y.jpg",
    "deep.dir/a.jpg",
    "with space/größe & ünïcode 写真.jpeg",
    ".hidden.jpg",
    "12:30.jpg",
    "C:odd.jpg",
    "back\\slash.jpg",
    "two\nlines.jpg",
    "long" * 50 + ".tiff",
]


def png(value: int) -> bytes:
    return encode_png(np.full((4, 4, 3), value % 256, np.uint8))


def fill(folder: Path, names: list[str]) -> dict[str, bytes]:
    """Write a different picture under each name."""
    contents = {name: png(number) for number, name in enumerate(names)}
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return contents


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def all_without_face(photo: Photo) -> None:
    photo.status = "no_face"


def all_restored(photo: Photo) -> None:
    """Restore one face, by painting its middle white."""
    pixels = decode(photo.image).pixels
    crop, matrix = align(pixels, FFHQ_512 / 128, 8)
    white = crop.copy()
    white[2:6, 2:6] = 255
    face = Face((0, 0, 4, 4), 1.0, FFHQ_512.astype(np.float32) / 128, matrix, crop, white, white, "restored", 4, 100)
    photo.status, photo.faces = "restored", [face]
    photo.height, photo.width = pixels.shape[:2]


def run(shards: str | Path, output: Path, decide: Callable[[Photo], None]) -> Output:
    """Commit every unit of `shards` with what `decide` makes of each photo, as a run would."""
    context = CommitContext(seed=0, models={}, versions={})
    for shard in resolve_inputs(str(shards)):
        for unit in cut(shard, index_shard(Path(shard.url))):
            photos = read_unit(Path(shard.url), unit)
            for photo in photos:
                if photo.status == "pending":
                    decide(photo)
            commit_unit(Location(output), photos, context)
    (output / "run.json").write_text("{}")
    return Output(output)


# --- keys --------------------------------------------------------------------------------------


def test_keys_are_different_and_are_what_webdataset_reads() -> None:
    keys = keys_of(NAMES)
    assert len(set(keys.values())) == len(NAMES)
    for key in keys.values():
        assert "." not in key.rpartition("/")[2]
        assert ".." not in key.split("/")


def test_keys_stay_readable() -> None:
    keys = keys_of(["scans/IMG 0001.jpg", "x.y.jpg", "b.jpg", "b.png"])
    assert list(keys.values()) == ["scans/IMG 0001", "x%2Ey", "b~jpg", "b~png"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"name": "a.jpg"}',
        source_member("/etc/passwd"),
        source_member("a/../../b.jpg"),
        source_member("a\\..\\b.jpg"),
        source_member("C:\\b.jpg"),
        source_member("a\x00.jpg"),
        source_member("folder/"),
        source_member("folder/."),
        json.dumps({"format": "dr2e.source/1", "name": 5}).encode(),
    ],
)
def test_a_name_that_cannot_be_trusted_is_none(data: bytes) -> None:
    assert source_name(data) is None


# --- pack --------------------------------------------------------------------------------------


def test_every_file_becomes_one_good_sample(tmp_path: Path) -> None:
    contents = fill(tmp_path / "in", NAMES)
    packed = pack(tmp_path / "in", Location(tmp_path / "shards"))
    assert packed.photos == len(NAMES)
    samples = [s for name in packed.shards for s in read_samples(tmp_path / "shards" / name)]
    assert {json.loads(dict(s.members)[f"{s.key}.{SOURCE}"])["name"]: s.image[1] for s in samples} == contents


def test_packing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    fill(tmp_path / "in", NAMES)
    for place in ("one", "two", "two"):
        pack(tmp_path / "in", Location(tmp_path / place), max_samples=5)
    assert len(files_below(tmp_path / "one")) == 4
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_shards_are_bounded_in_samples_and_bytes(tmp_path: Path) -> None:
    for number, size in enumerate([10, 10, 10, 500, 10, 10]):
        path = tmp_path / "in" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
    packed = pack(tmp_path / "in", Location(tmp_path / "out"), max_samples=2, max_bytes=100)
    keys = [[s.key for s in read_samples(tmp_path / "out" / name)] for name in packed.shards]
    assert keys == [["0", "1"], ["2"], ["3"], ["4", "5"]]


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["a.jpg", "notes.txt", "sub/raw.CR2", "Makefile", "._a.jpg", ".DS_Store"])
    packed = pack(tmp_path / "in", Location(tmp_path / "out"))
    assert packed.photos == 1
    assert packed.skipped == {".txt": 1, ".cr2": 1, "no extension": 1}


def test_single_files_and_object_stores(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["a.jpg", "sub/b.jpg"])
    store = Location(f"memory:/{tmp_path}/bucket")
    store.put("photos/c d.jpg", png(9))
    packed = pack([tmp_path / "in/a.jpg", tmp_path / "in/sub/b.jpg", f"{store.url}/photos"], store.child("shards"))
    assert packed.photos == 3
    (shard,) = resolve_inputs(f"{store.url}/shards")
    assert [sample.key for sample in read_samples(shard.url)] == ["a", "b", "c d"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, ["one/a.jpg", "two/a.jpg"])
    with pytest.raises(InputError, match="two files are both called"):
        pack([tmp_path / "one", tmp_path / "two"], Location(tmp_path / "out"))
    assert pack([tmp_path / "one", tmp_path / "one/a.jpg"], Location(tmp_path / "out")).photos == 1


def test_nothing_to_pack_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["notes.txt"])
    for place in ("in", "nowhere"):
        with pytest.raises(InputError, match="no images here"):
            pack(tmp_path / place, Location(tmp_path / "out"))


def test_shards_of_something_else_are_not_mixed_with(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["a.jpg", "b.jpg"])
    pack(tmp_path / "in", Location(tmp_path / "out"), max_samples=1)
    with pytest.raises(InputError, match="photos-000001"):
        pack(tmp_path / "in", Location(tmp_path / "out"))


# --- unpack ------------------------------------------------------------------------------------


def test_photos_without_faces_come_back_as_they_were(tmp_path: Path) -> None:
    names = [name for name in NAMES if name.isprintable() and name[:2] != "C:"]
    contents = fill(tmp_path / "in", names)
    pack(tmp_path / "in", Location(tmp_path / "shards"), max_samples=4)
    counts = unpack(run(tmp_path / "shards", tmp_path / "out", all_without_face), Location(tmp_path / "back"))
    assert files_below(tmp_path / "back") == contents
    assert (counts.no_face, counts.restored, counts.present, counts.rejected) == (len(names), 0, 0, 0)


def test_names_no_path_should_have_come_back_encoded(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["two\nlines.jpg", "C:odd.jpg"])
    pack(tmp_path / "in", Location(tmp_path / "shards"))
    unpack(run(tmp_path / "shards", tmp_path / "out", all_without_face), Location(tmp_path / "back"))
    assert set(files_below(tmp_path / "back")) == {"two%0Alines.jpg", "C%3Aodd.jpg"}


def test_restored_photos_keep_their_names_as_png(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["a.jpg", "a.png", "sub.dir/x.y.jpg"])
    pack(tmp_path / "in", Location(tmp_path / "shards"))
    output = run(tmp_path / "shards", tmp_path / "out", all_restored)
    counts = unpack(output, Location(tmp_path / "back"))
    back = files_below(tmp_path / "back")
    assert set(back) == {"a.jpg.png", "a.png.png", "sub.dir/x.y.png"}
    assert counts.restored == 3
    assert decode(back["sub.dir/x.y.png"]).pixels[2, 2].min() > 200
    # Again: everything is there.
    again = unpack(output, Location(tmp_path / "back"))
    assert (again.restored, again.present) == (0, 3)


def test_a_file_with_other_content_is_never_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["a.png"])
    pack(tmp_path / "in", Location(tmp_path / "shards"))
    output = run(tmp_path / "shards", tmp_path / "out", all_restored)
    with pytest.raises(FileTaken, match="unpack into an empty folder"):
        unpack(output, Location(tmp_path / "in"))
    assert files_below(tmp_path / "in") == {"a.png": png(0)}


def test_rejected_photos_and_uncommitted_units_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["a.jpg", "b.jpg", "c.jpg"])
    pack(tmp_path / "in", Location(tmp_path / "shards"), max_samples=1)

    def decide(photo: Photo) -> None:
        if photo.key == "b":
            photo.reject("image.truncated", "cut")
        else:
            photo.status = "no_face"

    output = run(tmp_path / "shards", tmp_path / "out", decide)
    next((tmp_path / "out/commits").glob("photos-000002*")).unlink()
    counts = unpack(output, Location(tmp_path / "back"))
    assert set(files_below(tmp_path / "back")) == {"a.jpg"}
    assert (counts.no_face, counts.rejected) == (1, 1)


def test_hostile_names_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    hostile = ["/tmp/owned.jpg", "../../owned.jpg", "ok/../../owned.jpg"]
    members = [
        (f"k{n}.{e}", d) for n, name in enumerate(hostile) for e, d in [("jpg", png(n)), (SOURCE, source_member(name))]
    ]
    write_shard(tmp_path / "shards/evil.tar", members)
    unpack(run(tmp_path / "shards", tmp_path / "out", all_restored), Location(tmp_path / "deep/er/back"))
    assert set(files_below(tmp_path / "deep")) == {"er/back/k0.png", "er/back/k1.png", "er/back/k2.png"}


def test_foreign_shards_with_the_same_keys_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(2):
        write_shard(tmp_path / f"shards/{number}.tar", [("0001.jpg", png(number)), ("0001.txt", b"a caption")])
    counts = unpack(run(tmp_path / "shards", tmp_path / "out", all_without_face), Location(tmp_path / "back"))
    assert counts.no_face == 2
    assert sorted(files_below(tmp_path / "back").values()) == sorted([png(0), png(1)])
    assert (tmp_path / "back/0001.jpg").read_bytes() == png(0)


def test_a_changed_shard_is_noticed(tmp_path: Path) -> None:
    fill(tmp_path / "in", ["a.jpg"])
    pack(tmp_path / "in", Location(tmp_path / "shards"))
    output = run(tmp_path / "shards", tmp_path / "out", all_without_face)
    (shard,) = (tmp_path / "out" / SHARDS).iterdir()
    shard.write_bytes(shard.read_bytes().replace(png(0), png(1)))
    with pytest.raises(LedgerError, match="dr2e verify"):
        unpack(output, Location(tmp_path / "back"))


# --- commands ----------------------------------------------------------------------------------


def test_the_two_commands(tmp_path: Path) -> None:
    contents = fill(tmp_path / "in", ["a.jpg", "sub/b.jpg"])
    fill(tmp_path / "in", ["read.me"])
    packed = CliRunner().invoke(pack_command, [str(tmp_path / "in"), str(tmp_path / "shards")], catch_exceptions=False)
    assert packed.exit_code == 0
    assert "2 photos in 1 shards" in packed.output
    assert "1 .me" in packed.output
    run(tmp_path / "shards", tmp_path / "out", all_without_face)
    arguments = [str(tmp_path / "out"), str(tmp_path / "back"), "--json"]
    unpacked = CliRunner().invoke(unpack_command, arguments, catch_exceptions=False)
    assert json.loads(unpacked.stdout) == {"restored": 0, "no_face": 2, "present": 0, "rejected": 0}
    assert files_below(tmp_path / "back") == contents
