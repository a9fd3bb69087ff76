from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.inputs import InputError, expand_braces, resolve_inputs
from pipeline.storage import open_location


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("000.tar", "001.tar", "010.tar", "000.parquet", "000_stats.json", "._000.tar", "sub/000.tar", "x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["000.tar", "001.tar", "010.tar"]),
        ("/", ["000.tar", "001.tar", "010.tar"]),
        ("/000.tar", ["000.tar"]),
        ("/*1*.tar", ["001.tar", "010.tar"]),
        ("/**/*.tar", ["000.tar", "001.tar", "010.tar", "sub/000.tar"]),
        ("/{000..001}.tar", ["000.tar", "001.tar"]),
        ("/{sub/000,010}.tar", ["010.tar", "sub/000.tar"]),
        ("/s*", None),
        ("/{000..003}.tar", None),
        ("/{003..000}.tar", None),
        ("/none.tar", None),
        ("/nowhere", None),
        ("/x.jpg", None),
        ("/000.parquet", None),
    ],
)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "s3"])
def test_inputs_mean_the_same_locally_and_on_s3(
    text: str, names: list[str] | None, remote: bool, folder: Path, request: pytest.FixtureRequest
) -> None:
    base, options = str(folder), None
    if remote:
        server = request.getfixturevalue("s3")
        place = open_location(server.folder(), server.options)
        for file in folder.rglob("*.*"):
            place.put(str(file.relative_to(folder)), file)
        base, options = place.url, server.options
    if names is None:
        with pytest.raises(InputError) as caught:
            resolve_inputs(base + text, options)
        assert "\n" not in str(caught.value)
        return
    shards = resolve_inputs(base + text, options)
    assert [shard.relative for shard in shards] == names
    assert [shard.url for shard in shards] == [f"{base}/{name}" for name in names]
    assert [shard.size for shard in shards] == [len(name) for name in names]


def test_several_inputs_count_each_shard_once(folder: Path) -> None:
    shards = resolve_inputs([f"{folder}/000.tar", str(folder), f"{folder}/{{000..001}}.tar"])
    assert [shard.relative for shard in shards] == ["000.tar", "001.tar", "010.tar"]


def test_shards_that_would_share_a_name_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"both called 000.tar.*one glob"):
        resolve_inputs([str(folder), f"{folder}/sub"])


def test_paths_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for text in (".", "*.tar", "{000..001}.tar", "000.tar"):
        assert resolve_inputs(text)[0].url == f"{folder}/000.tar"


def test_no_input_is_an_error() -> None:
    with pytest.raises(InputError, match="no input"):
        resolve_inputs([])


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("a", ["a"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{008..010}", ["008", "009", "010"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{single}", ["{single}"]),
    ],
)
def test_braces_expand_as_in_bash(text: str, expanded: list[str]) -> None:
    assert expand_braces(text) == expanded


def test_the_fingerprint_is_the_storages_own(s3: Any, tmp_path: Path) -> None:
    place = open_location(s3.folder(), s3.options)
    place.put("a.tar", b"1")
    (before,) = resolve_inputs(place.url, s3.options)
    place.put("a.tar", b"2")
    (after,) = resolve_inputs(place.url, s3.options)
    assert before.etag != after.etag and before.size == after.size
