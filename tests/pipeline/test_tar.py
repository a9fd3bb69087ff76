from __future__ import annotations

import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest

from pipeline.tar import scan, write_shard

FILES = [("a.jpg", b"A" * 700), ("a.json", b"{}"), ("b.jpg", b"B" * 512), ("empty.txt", b"")]
END = 2 * tarfile.BLOCKSIZE


@pytest.fixture
def healthy(tmp_path: Path) -> bytes:
    write_shard(tmp_path / "healthy.tar", FILES)
    return (tmp_path / "healthy.tar").read_bytes()


def _scan(tmp_path: Path, data: bytes) -> tuple[list[str], str]:
    """Names of the members found (cut ones with a mark), and the code of the problem or ""."""
    path = tmp_path / "scanned.tar"
    path.write_bytes(data)
    members, problem = scan(path)
    return [m.name + "!" * (m.kind == "cut") for m in members], problem.code if problem else ""


def _header(name: str, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def test_what_is_written_is_found_again(healthy: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(healthy)
    members, problem = scan(tmp_path / "x.tar")
    assert problem is None
    assert [(m.name, healthy[m.offset : m.offset + m.size], m.kind) for m in members] == [(*f, "file") for f in FILES]
    with tarfile.open(fileobj=io.BytesIO(healthy)) as archive:
        assert archive.getnames() == [name for name, _ in FILES]


def test_the_same_members_give_the_same_bytes(healthy: bytes, tmp_path: Path) -> None:
    write_shard(tmp_path / "again.tar", iter(FILES))
    assert (tmp_path / "again.tar").read_bytes() == healthy
    with tarfile.open(fileobj=io.BytesIO(healthy)) as archive:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in archive} == {(0, 0, 0, "", 0o644)}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def members() -> object:
        yield FILES[0]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_shard(tmp_path / "x.tar", members())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["short.jpg", "d/" * 60 + "deep.jpg", "größe-写真.jpg", "x" * 99 + ".jpg"])
def test_every_dialect_and_long_name_is_read(dialect: int, name: str, tmp_path: Path) -> None:
    if dialect == tarfile.USTAR_FORMAT and name.startswith("x"):
        pytest.skip("ustar cannot hold this name")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=dialect) as archive:
        for member in (name, "next.jpg"):
            info = tarfile.TarInfo(member)
            info.size, info.mtime = 3, 1234567890.5 if dialect == tarfile.PAX_FORMAT else 1
            archive.addfile(info, io.BytesIO(b"123"))
    assert _scan(tmp_path, out.getvalue()) == ([name, "next.jpg"], "")


def test_a_cut_is_noticed_wherever_it_is(healthy: bytes, tmp_path: Path) -> None:
    """At every block, beside it and within it: only a cut in the padding behind the end goes unnoticed."""
    with tarfile.open(fileobj=io.BytesIO(healthy)) as archive:
        archive.getmembers()
        complete = archive.offset + END  # tarfile stands on the first zero block
    blocks = range(0, len(healthy), tarfile.BLOCKSIZE)
    sizes = {block + byte for block in blocks for byte in (0, 1, 100, 511)}
    path = tmp_path / "cut.tar"
    path.write_bytes(healthy)
    names = [name for name, _ in FILES]
    for size in sorted(sizes, reverse=True):
        with open(path, "r+b") as file:
            file.truncate(size)
        members, problem = scan(path)
        found = [m.name for m in members if m.kind == "file"]
        assert found == names[: len(found)]
        if size >= complete:
            assert problem is None and found == names
        else:
            assert problem is not None
            assert problem.code == ("shard.truncated" if size else "shard.empty")


def test_damage_is_survived_and_never_hidden(healthy: bytes, tmp_path: Path) -> None:
    """Random bytes are changed: no exception, no member from nowhere, and damage to headers is reported."""
    rng = random.Random(0)
    codes = set()
    for _ in range(150):
        data = bytearray(healthy)
        for _ in range(rng.choice([1, 1, 4, 40])):
            data[rng.randrange(4096)] = rng.choice([0, 0xFF, 0x80, rng.randrange(256)])
        names, code = _scan(tmp_path, bytes(data))
        codes.add(code)
        assert len(names) <= len(FILES)
    assert {"", "shard.corrupt", "shard.not_tar"} <= codes


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "shard.empty"),
        (gzip.compress(b"x" * 2000), "shard.compressed"),
        (b"PK\x03\x04" + b"\0" * 600, "shard.compressed"),
        (b"this is text, not an archive\n" * 100, "shard.not_tar"),
        (b"short text", "shard.truncated"),
        (b"\0" * 10240, ""),
        (b"\0" * 512, "shard.truncated"),
        (b"\0" * 1000, "shard.truncated"),
    ],
    ids=["nothing", "gzip", "zip", "text", "short text", "two empty blocks", "one empty block", "less than two"],
)
def test_other_things_named_tar(data: bytes, code: str, tmp_path: Path) -> None:
    assert _scan(tmp_path, data) == ([], code)


def test_data_behind_the_end_is_reported(healthy: bytes, tmp_path: Path) -> None:
    names = [name for name, _ in FILES]
    assert _scan(tmp_path, healthy + b"\0" * 3_000_000) == (names, "")
    assert _scan(tmp_path, healthy + healthy) == (names, "shard.trailing_data")
    assert _scan(tmp_path, healthy + b"\0" * 3_000_000 + b"x") == (names, "shard.trailing_data")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([_header("a", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "link"),
        ([_header("a", type=tarfile.LNKTYPE, linkname="b")], "link"),
        ([_header("a", type=tarfile.CHRTYPE)], "device"),
        ([_header("a", type=tarfile.FIFOTYPE)], "device"),
        ([_header("a", type=tarfile.DIRTYPE)], "folder"),
        ([_header("a", type=b"M")], "other"),
    ],
)
def test_what_is_no_file_is_named_as_such(headers: list[bytes], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(headers) + _header("b.jpg") + b"\0" * END)
    members, problem = scan(path)
    assert problem is None
    assert [(m.name, m.kind) for m in members] == [("a", expected), ("b.jpg", "file")]


def test_sparse_files_are_recognised_and_stepped_over(tmp_path: Path) -> None:
    old = bytearray(_header("old.jpg", type=tarfile.GNUTYPE_SPARSE, size=512))
    old[482] = 1  # its map goes on in one more block
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + sum(old[156:]) + 8 * 32)
    record = b"22 GNU.sparse.major=1\n32 GNU.sparse.name=new/real.jpg\n"
    pax = _header("PaxHeader", type=tarfile.XHDTYPE, size=len(record)) + record.ljust(512, b"\0")
    data = bytes(old) + b"\0" * 512 + b"D" * 512 + pax + _header("GNUSparseFile.0/x", size=512) + b"D" * 512
    path = tmp_path / "x.tar"
    path.write_bytes(data + _header("b.jpg") + b"\0" * END)
    members, problem = scan(path)
    assert problem is None
    assert [(m.name, m.kind) for m in members] == [
        ("old.jpg", "sparse"),
        ("new/real.jpg", "sparse"),
        ("b.jpg", "file"),
    ]


def test_sizes_that_lie_end_the_walk(tmp_path: Path) -> None:
    """Negative, gigantic and nonsensical sizes, in headers and pax records: reported, no loop, no allocation."""
    negative = bytearray(_header("a.jpg"))
    negative[124:136] = b"\xff" * 12  # base 256, two's complement
    negative[148:156] = b"%06o\0 " % (sum(negative[:148]) + sum(negative[156:]) + 8 * 32)
    assert _scan(tmp_path, _header("z") + bytes(negative) + b"\0" * END) == (["z"], "shard.corrupt")

    huge = _header("a.jpg", size=8**11 * 1000)
    assert _scan(tmp_path, huge + b"\0" * END) == (["a.jpg!"], "shard.truncated")

    long_name = _header("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=2**40)
    assert _scan(tmp_path, _header("z") + long_name + b"\0" * END) == (["z"], "shard.corrupt")

    for record in (b"10 size=-5\n", b"12 size=many\n", b"99 path=a\n", b"x path=a\n", b"0 =\n", b"11 path=abcd"):
        pax = _header("pax", type=tarfile.XHDTYPE, size=len(record)) + record.ljust(512, b"\0")
        assert _scan(tmp_path, _header("z") + pax + _header("a") + b"\0" * END) == (["z"], "shard.corrupt"), record


def test_names_that_are_not_utf8_are_kept_as_surrogates(tmp_path: Path) -> None:
    header = bytearray(_header("abcd.jpg"))
    header[0:4] = b"\xff\xfe\xfa\xfb"
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    names, code = _scan(tmp_path, bytes(header) + b"\0" * END)
    assert code == "" and names[0].encode("utf-8", "surrogateescape") == b"\xff\xfe\xfa\xfb.jpg"
