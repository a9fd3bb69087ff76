from __future__ import annotations

import io
import logging
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.names import harmless, is_noise, name_problem, split_key
from pipeline.shards import index_shard, read_samples, write_shard
from pipeline.storage import open_location

Members = list[tuple[str, bytes]]


def _index(tmp_path: Path, members: Members, cut: int = 0, **limits: int) -> dict[str, str]:
    """Code of the problem, or "", by key; the shard's own under "*"."""
    path = tmp_path / "x.tar"
    write_shard(path, members)
    if cut:
        path.write_bytes(path.read_bytes()[:cut])
    index = index_shard(path, **limits)
    codes = {sample.key: sample.problem.code if sample.problem else "" for sample in index.samples}
    assert len(codes) == len(index.samples), "a key came twice"
    return codes | ({"*": index.problem.code} if index.problem else {})


@pytest.mark.parametrize(
    ("members", "codes"),
    [
        ([("a.jpg", b"1"), ("a.json", b"{}"), ("b.PNG", b"2")], {"a": "", "b": ""}),
        ([("d/a.jpg", b"1"), ("e/a.jpg", b"2"), ("a.jpg", b"3")], {"d/a": "", "e/a": "", "a": ""}),
        ([("d.x/a.jpg", b"1"), ("./b.jpg", b"2")], {"d.x/a": "", "./b": ""}),
        ([("a.jpg", b"1"), ("a.mask.png", b"2"), ("a.restored.png", b"3")], {"a": ""}),
        ([("a.photo.jpg", b"1"), ("a.txt", b"x")], {"a": ""}),
        ([("a.jpg", b"1"), ("a.png", b"2")], {"a": "sample.several_images"}),
        ([("a.left.jpg", b"1"), ("a.right.jpg", b"2")], {"a": "sample.several_images"}),
        ([("a.json", b"{}"), ("README", b"read")], {"a": "sample.no_image", "README": "sample.no_image"}),
        ([("a.jpg", b"1"), ("a.jpg", b"2"), ("b.jpg", b"3")], {"a": "sample.duplicate_member", "b": ""}),
        ([("a.jpg", b"1"), ("b.jpg", b"3"), ("a.jpg", b"2")], {"a": "sample.duplicate_key", "b": ""}),
        ([("a.jpg", b"1"), ("b.jpg", b"3"), ("a.json", b"{}")], {"a": "sample.duplicate_key", "b": ""}),
        ([("../../x.jpg", b"1"), ("b.jpg", b"2")], {"%2E%2E/%2E%2E/x": "member.path", "b": ""}),
        ([("/etc/x.jpg", b"1")], {"%2Fetc/x": "member.path"}),
        ([("c:\\x.jpg", b"1")], {"c%3A\\x": "member.path"}),
        ([("a\nb.jpg", b"1")], {"a%0Ab": "member.name"}),
        ([("d/.jpg", b"1")], {"d/": "member.name"}),
        ([("._a.jpg", b"mac"), ("a.jpg", b"1"), ("d/.DS_Store", b"mac")], {"a": ""}),
        ([], {"*": "shard.no_samples"}),
    ],
)
def test_every_sample_is_good_or_has_its_reason(members: Members, codes: dict[str, str], tmp_path: Path) -> None:
    assert _index(tmp_path, members) == codes


def test_links_and_the_like_condemn_their_sample_only(tmp_path: Path) -> None:
    kinds = {"l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "d": tarfile.BLKTYPE, "f": tarfile.FIFOTYPE}
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for key, kind in kinds.items():
            info = tarfile.TarInfo(f"{key}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
            text = tarfile.TarInfo(f"{key}.txt")
            text.size = 2
            archive.addfile(text, io.BytesIO(b"ok"))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        archive.addfile(tarfile.TarInfo("z.jpg"))
    index = index_shard(tmp_path / "x.tar")
    codes = {sample.key: sample.problem.code if sample.problem else "" for sample in index.samples}
    assert codes == {"l": "member.link", "h": "member.link", "d": "member.device", "f": "member.device", "z": ""}
    assert [member.name for member in index.samples[0].members] == ["l.txt"]


def test_a_cut_shard_keeps_what_is_certainly_whole(tmp_path: Path) -> None:
    members = [(f"{key}.{ext}", b"x" * 600) for key in "abc" for ext in ("jpg", "txt")]
    member = 3 * tarfile.BLOCKSIZE
    whole = {"a": "", "b": ""}
    # Cut inside c.txt; behind c.jpg, where c.txt could have been; inside c.jpg.
    for cut in (5 * member + 700, 5 * member, 4 * member + 700):
        assert _index(tmp_path, members, cut) == {**whole, "c": "sample.cut", "*": "shard.truncated"}
    # Behind b.txt: b might have had another member.
    assert _index(tmp_path, members, 4 * member) == {"a": "", "b": "sample.cut", "*": "shard.truncated"}


def test_a_sample_too_large_is_not_read(tmp_path: Path) -> None:
    members = [("a.jpg", b"x" * 600), ("a.bin", b"x" * 600), ("b.jpg", b"x" * 600)]
    assert _index(tmp_path, members, max_sample_bytes=1000) == {"a": "sample.too_large", "b": ""}
    index = index_shard(tmp_path / "x.tar", max_sample_bytes=1000)
    assert [sample.bytes for sample in index.samples] == [0, 600]


def test_names_that_are_not_utf8_are_spelled(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(name))
    (sample,) = index_shard(tmp_path / "x.tar").samples
    assert (sample.key, sample.members[0].name) == ("caf%E9", "caf%E9.jpg")
    assert sample.problem is not None and sample.problem.code == "member.name"
    assert "caf%E9.jpg" in sample.problem.message


@pytest.mark.parametrize(
    "name", ["a.jpg", "./a.jpg", "d/e/f.tar.gz", "größe 写真.jpg", "a..b.jpg", "..a/b.jpg", "100%.jpg"]
)
def test_ordinary_names_stay(name: str) -> None:
    assert harmless(name) == name
    assert name_problem(name) is None


def test_keys_are_webdatasets() -> None:
    assert split_key("a/b.c/d.restored.png") == ("a/b.c/d", "restored.png")
    assert split_key("README") == ("README", "")
    assert is_noise("a/._b.jpg") and not is_noise("a/_b.jpg")


def test_read_samples_gives_the_good_and_names_the_others(
    s3: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.tar"
    write_shard(path, [("a.json", b"{}"), ("a.jpg", b"1"), ("b.txt", b"lost"), ("c.mask.png", b"m"), ("c.jpg", b"3")])
    place = open_location(s3.folder(), s3.options)
    place.put("x.tar", path)
    for url, options in ((path, None), (f"{place.url}/x.tar", s3.options)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            samples = list(read_samples(url, options))
        assert [(s.key, s.image) for s in samples] == [("a", ("a.jpg", b"1")), ("c", ("c.jpg", b"3"))]
        assert samples[0].members == [("a.json", b"{}"), ("a.jpg", b"1")]
        assert "sample.no_image" in caplog.text
