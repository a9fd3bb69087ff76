"""Archives that are cut, damaged or no archives at all. What is certainly whole in them is processed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from faults.zoo.exhibit import NO_FACE, Exhibit, Fate, rejected
from faults.zoo.tars import END, TINY, altered, header, member, pax, record, tar
from pipeline.shards import MAX_SAMPLE_BYTES


def shard(name: str, what: str, data: bytes, fates: Mapping[str, Fate], note: str = "", file: str = "") -> Exhibit:
    """An exhibit that is a shard of its own."""

    def write(path: Path) -> None:
        path.write_bytes(data)

    return Exhibit(name, what, file or f"{name}.tar", fates, write, note)


def archives() -> Iterator[Exhibit]:
    """Every exhibit of this kind."""
    yield from _no_archives()
    yield from _cut()
    yield from _damaged()
    yield Exhibit(
        "sample-1gib",
        "a sample of more than 1 GiB",
        "sample-1gib.tar",
        {"big": rejected("sample.too_large", "'big' has … bytes of at most …; leave it out"), "z": NO_FACE},
        _write_large,
        "it is not read",
    )


def _no_archives() -> Iterator[Exhibit]:
    whole = tar(member("a.png"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.png", TINY)
    unpack = "decompress it to a plain tar"
    kinds: list[tuple[str, str, bytes, str, str]] = [
        ("zero", "a shard of 0 bytes", b"", "shard.empty", "the file is empty (0 bytes); write it again"),
        (
            "gzip",
            "a gzipped tar named .tar",
            gzip.compress(whole, mtime=0),
            "shard.compressed",
            f"gzip data named .tar; {unpack}",
        ),
        (
            "bzip2",
            "a tar compressed by bzip2",
            bz2.compress(whole),
            "shard.compressed",
            f"bzip2 data named .tar; {unpack}",
        ),
        ("xz", "a tar compressed by xz", lzma.compress(whole), "shard.compressed", f"xz data named .tar; {unpack}"),
        ("ziptar", "a ZIP named .tar", out.getvalue(), "shard.compressed", f"zip data named .tar; {unpack}"),
        (
            "page",
            "a web page named .tar",
            b"<!DOCTYPE html>" * 99,
            "shard.not_tar",
            "this is no tar archive, for it has no header; write it again",
        ),
        ("few", "a few bytes named .tar", b"404", "shard.truncated", "the archive was cut: …; transfer it again"),
        (
            "blank",
            "an archive without members",
            bytes(10240),
            "shard.no_samples",
            "the archive holds no files; write it again",
        ),
        (
            "folders",
            "an archive of folders and of what macOS adds",
            _noise_only(),
            "shard.no_samples",
            "the archive holds no files; write it again",
        ),
    ]
    for name, what, data, code, says in kinds:
        yield shard(name, what, data, {f"{name}.tar": rejected(code, says)})


def _noise_only() -> bytes:
    return tar(member("d/", b"", tarfile.DIRTYPE), member("d/._a.jpg", b"mac"), member(".DS_Store", b"mac"))


def _cut() -> Iterator[Exhibit]:
    first, second = member("a.png"), member("b.png", TINY + bytes(1000))
    may_lack = rejected("sample.cut", "…, so members may be missing; transfer the shard again")
    in_it = rejected("sample.cut", "the data of … are cut; transfer the shard again")
    cut = rejected("shard.truncated", "the archive was cut: …; transfer it again")
    whole = first + second
    yield shard(
        "cut-header-tar", "a tar cut at or in a header", whole + header("c.png")[:200],
        {"a": NO_FACE, "b": may_lack, "cut-header-tar.tar": cut}, "the sample before the cut may lack members",
    )  # fmt: skip
    yield shard(
        "cut-data", "a tar cut in the data of a member", whole[:-600],
        {"a": NO_FACE, "b": in_it, "cut-data.tar": cut},
    )  # fmt: skip
    yield shard(
        "cut-end-tar", "a tar without its second end block", first + END[:512],
        {"a": may_lack, "cut-end-tar.tar": cut},
    )  # fmt: skip
    yield shard(
        "cut-pax", "a tar cut in the header of a long name", first + pax(record("path", b"x" * 900))[:600],
        {"a": may_lack, "cut-pax.tar": cut},
    )  # fmt: skip
    joined = "if two tars were joined, join them with tar --concatenate"
    behind = rejected("shard.trailing_data", f"… bytes behind the end of the archive were not read; {joined}")
    yield shard(
        "trailing-tar", "a tar with foreign bytes behind its end", tar(first) + b"garbage",
        {"a": NO_FACE, "trailing-tar.tar": behind},
    )  # fmt: skip
    yield shard(
        "joined", "two tars joined by cat", tar(first) + tar(second),
        {"a": NO_FACE, "joined.tar": behind}, "the second is not read",
    )  # fmt: skip


def _damaged() -> Iterator[Exhibit]:
    before = member("a.png")
    fates = {"a": rejected("sample.cut", "…, so members may be missing; transfer the shard again")}
    tiny_records = record("k", b"") * (2**20 // 5 - 10)
    kinds: list[tuple[str, str, bytes, str]] = [
        ("checksum", "a header whose checksum is wrong", header("b.png").replace(b"b.png", b"c.png"), "bad checksum"),
        ("negative", "a member of negative size", altered(header("b.png"), 124, b"\xff" * 12), "a size is -1"),
        (
            "pax-broken",
            "a malformed extended header",
            pax(b"99 path=x\n") + member("b.png"),
            "a pax header is malformed",
        ),
        (
            "pax-size",
            "an extended header with a size that is no number",
            pax(record("size", b"many")) + member("b.png"),
            "a size reads 'many'",
        ),
        (
            "long-name",
            "a name that claims 1 TiB",
            header("././@LongLink", 2**40, tarfile.GNUTYPE_LONGNAME),
            "claims 1099511627776 bytes",
        ),
    ]
    for name, what, data, says in kinds:
        problem = rejected("shard.corrupt", f"{says}; what follows was not read, transfer it again")
        yield shard(name, what, before + data + END, {**fates, f"{name}.tar": problem})
    says = "the archive was cut: it ends inside 'b.png' …; transfer it again"
    huge = before + header("b.png", 2**50) + END
    yield shard(
        "huge-size", "a member that claims 1 PiB", huge,
        {"a": NO_FACE, "b": rejected("sample.cut", "the data of … are cut; transfer the shard again"),
         "huge-size.tar": rejected("shard.truncated", says)},
    )  # fmt: skip
    yield shard(
        "pax-records", "an extended header of 200,000 records", tar(before, pax(tiny_records), member("b.png")),
        {"a": NO_FACE, "b": NO_FACE}, "read as any other",
    )  # fmt: skip


def _write_large(path: Path) -> None:
    """A hole in the file stands for the data, so that it takes no space."""
    with open(path, "wb") as file:
        file.write(header("big.jpg", MAX_SAMPLE_BYTES + 512))
        file.seek(MAX_SAMPLE_BYTES + 512, 1)
        file.write(tar(member("z.png")))
