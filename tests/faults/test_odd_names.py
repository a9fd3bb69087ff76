"""Shards and members whose names mean something elsewhere: in a glob, a URL, a shell, another alphabet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.zoo.by_stages import by_stages, config
from faults.zoo.tars import TINY
from pipeline.inputs import InputError, resolve_inputs
from pipeline.storage import Location
from pipeline.tar import write_shard
from pipeline.unpacking import unpack

NAMES = [
    "a b",
    "100%",
    "c#1",
    "d?e=f&g",
    "h[0]",
    "*",
    "{x,y}",
    "{1..3}",
    "q'\"`$(x)",
    "größe",
    "写真",
    "🙂",
    "é",
    "e\u0301",
]
FOLDER = "scans [2019] {1..2} #3 50% ?"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A folder with an odd name and a shard of every odd name, each with a photo of that name."""
    if request.param == "local":
        folder = Location(tmp_path / FOLDER)
    else:
        server = request.getfixturevalue("s3")
        folder = Location(f"{server.folder()}/{FOLDER}", server.options)
    shard = tmp_path / "shard.tar"
    for number, name in enumerate(NAMES):
        write_shard(shard, [(f"{number} {name}.png", TINY)])
        folder.put(f"{name}.tar", shard)
    return folder


def test_odd_names_are_listed_restored_verified_and_unpacked(place: Location, tmp_path: Path) -> None:
    assert [shard.name for shard in resolve_inputs(place.url, place.options)] == sorted(f"{name}.tar" for name in NAMES)
    settings = config(place.url, f"{place.url}/out")
    storage = settings.storage.model_copy(update={"input": place.options, "output": place.options})
    output = by_stages(settings.model_copy(update={"storage": storage}))
    assert output.status().counts["no_face"] == len(NAMES)
    assert output.verify() == []
    unpack(output, Location(tmp_path / "files"))
    unpack(output, place.child("files"))
    assert sorted(os.listdir(tmp_path / "files")) == sorted(f"{number} {name}.png" for number, name in enumerate(NAMES))
    assert [entry.name for entry in place.child("files").entries()] == sorted(os.listdir(tmp_path / "files"))


def test_a_name_given_as_it_stands_is_that_shard_and_no_pattern(place: Location) -> None:
    for name in NAMES:
        (shard,) = resolve_inputs(f"{place.url}/{name}.tar", place.options)
        assert shard.relative == f"{name}.tar"
        assert shard.url == f"{place.url}/{name}.tar"


def test_patterns_below_an_odd_folder_stay_patterns(place: Location) -> None:
    assert len(resolve_inputs(f"{place.url}/*e*.tar", place.options)) == 3
    assert [s.name for s in resolve_inputs(f"{place.url}/{{写真,größe}}.tar", place.options)] == [
        "größe.tar",
        "写真.tar",
    ]


@pytest.mark.parametrize("name", [b"caf\xe9.tar", b"line\nbreak.tar"])
def test_a_shard_whose_own_name_is_no_text_is_refused_in_one_line(name: bytes, tmp_path: Path) -> None:
    (tmp_path / "good.tar").write_bytes(b"")
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
        pass
    with pytest.raises(InputError, match=r"(caf%E9|line%0Abreak)\.tar: .*; rename it") as caught:
        resolve_inputs(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_links_to_shards_are_followed_and_a_dead_one_is_missed(tmp_path: Path) -> None:
    write_shard(tmp_path / "real.tar", [("a.png", TINY)])
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.tar").symlink_to(tmp_path / "real.tar")
    settings = config(folder, tmp_path / "out")
    assert by_stages(settings).status().counts["photos"] == 1
    (folder / "dead.tar").symlink_to(tmp_path / "nothing.tar")
    dead, _ = resolve_inputs(str(folder))
    assert dead.name == "dead.tar"


def test_unpacking_keeps_apart_what_a_disk_takes_for_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS and Windows do it: a name is taken if it is in other letters."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_shard(folder / "s.tar", [("Photo.png", TINY), ("photo.png", TINY + b"another")])
    output = by_stages(config(folder, tmp_path / "out"))
    put, read = Location.put_if_absent, Location.read

    def folded(self: Location, name: str) -> str:
        return name.casefold() if self.url.endswith("files") else name

    def put_folded(self: Location, name: str, body: bytes) -> bool:
        return put(self, folded(self, name), body)

    def read_folded(self: Location, name: str) -> bytes:
        return read(self, folded(self, name))

    monkeypatch.setattr(Location, "put_if_absent", put_folded)
    monkeypatch.setattr(Location, "read", read_folded)
    for _ in range(2):
        unpack(output, Location(tmp_path / "files"))
        files = [path.read_bytes() for path in (tmp_path / "files").rglob("*.png")]
        assert sorted(files) == sorted([TINY, TINY + b"another"])
