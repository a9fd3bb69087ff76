"""Healthy archives with members and names that cannot be taken as they are, and some that look so and can."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from faults.zoo.archives import shard
from faults.zoo.exhibit import NO_FACE, Exhibit, rejected
from faults.zoo.tars import altered, header, member, pax, record, tar


def samples() -> Iterator[Exhibit]:
    """Every exhibit of this kind. A good neighbour "z" must survive each of them."""
    for name, what, data, key, code, says in [*_entries(), *_groups(), *_names()]:
        yield shard(name, what, tar(data, member("z.png")), {key: rejected(code, says), "z": NO_FACE})
    apart = tar(member("a.png"), member("z.png"), member("a.txt", b"late"))
    fate = rejected("sample.duplicate_key", "the key 'a' comes back after other samples; sort the shard by name")
    yield shard("apart", "a key that comes back after other samples", apart, {"a": fate, "z": NO_FACE})
    yield from _taken()


_Kind = tuple[str, str, bytes, str, str, str]
"""(name, what, members, the rejected key, code, message)."""


def _entries() -> Iterator[_Kind]:
    """Members that are no regular files."""
    link = "not a regular file (link); write the file itself, with tar --dereference --hard-dereference"
    target = header("a.png", 0, tarfile.SYMTYPE, "/etc/passwd")
    yield "symlink", "a symbolic link instead of the photo", target, "a", "member.link", link
    within = header("a.png", 0, tarfile.LNKTYPE, "z.png")
    yield "hardlink", "a hard link to another member", within, "a", "member.link", link
    leave = "not a regular file (device); leave it out"
    for name, kind in (("char", tarfile.CHRTYPE), ("block", tarfile.BLKTYPE), ("fifo", tarfile.FIFOTYPE)):
        what = {"char": "a character device", "block": "a block device", "fifo": "a named pipe"}[name]
        yield name, what, header("a.png", 0, kind), "a", "member.device", leave
    sparse = "not a regular file (sparse); write it without --sparse"
    old = altered(header("a.png", 512, tarfile.GNUTYPE_SPARSE), 482, b"\1") + bytes(1024)
    yield "sparse-gnu", "a sparse file of old GNU tar", old, "a", "member.sparse", sparse
    new = pax(record("GNU.sparse.major", b"1") + record("GNU.sparse.name", b"a.png")) + member("GNUSparseFile.0/a")
    yield "sparse-pax", "a sparse file of new GNU tar", new, "a", "member.sparse", sparse
    yield (
        "multivolume",
        "the rest of a file from another volume",
        header("a.png", 0, b"M"),
        "a",
        "member.other",
        "not a regular file (other); write it as one",
    )


def _groups() -> Iterator[_Kind]:
    """Samples that are ambiguous or incomplete."""
    twice = member("a.png") + member("a.png")
    yield (
        "twice",
        "a member name twice",
        twice,
        "a",
        "sample.duplicate_member",
        "two members are called 'a.png'; rename one",
    )
    pair = member("a.png") + member("a.jpg")
    yield (
        "pair",
        "two photos in a sample",
        pair,
        "a",
        "sample.several_images",
        "which is the photo of 'a'? a.png, a.jpg; keep one",
    )
    crowd = b"".join(member(f"a.{number:05d}.png", b"") for number in range(5000))
    yield (
        "crowd",
        "5,000 photos in a sample",
        crowd,
        "a",
        "sample.several_images",
        "which is the photo of 'a'? … and 4,997 more; keep one",
    )
    says = "no member of … is an image by its extension; add it"
    alone = member("a.json", b"{}")
    yield "no-image", "a sample without photo", alone, "a", "sample.no_image", says
    yield "no-extension", "a member without extension", member("README"), "README", "sample.no_image", says
    inner = tar(member("b.png"))
    yield "tar-in-tar", "a tar in the tar", member("a.tar", inner), "a", "sample.no_image", says


def _names() -> Iterator[_Kind]:
    """Names that are dangerous, or no text."""
    path = "would lead out of a folder when extracted; rename it"
    for name, what, stored, key in (
        ("climbing", "`../../x.png`", "../../x.png", "%2E%2E/%2E%2E/x"),
        ("absolute", "an absolute name", "/etc/x.png", "%2Fetc/x"),
        ("drive", "a Windows drive", "c:\\x.png", "c%3A\\x"),
        ("backslash", "`..\\x.png`", "..\\x.png", "%2E%2E\\x"),
    ):
        yield (
            name,
            f"a member called {what}" if "`" in what else f"{what} as member name",
            member(stored),
            key,
            "member.path",
            path,
        )
    text = "has bytes that are not UTF-8 or control characters; rename it"
    latin = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    yield "latin-1", "a member name that is not UTF-8", member(latin), "caf%E9", "member.name", text
    yield "newline", "a member name with a line break", member("a\nb.png"), "a%0Ab", "member.name", text
    null = pax(record("path", b"a\0b.png")) + member("x")
    yield "null", "a member name with a null byte", null, "a%00b", "member.name", text
    no_key = "has no key before its first dot; rename it"
    yield "only-extension", "a name that is only an extension", member(".png"), "", "member.name", no_key
    yield "hidden", "the same in a folder", member("d/.png"), "d/", "member.name", no_key


def _taken() -> Iterator[Exhibit]:
    """What looks wrong and is not."""
    long, deep = "x" * 300, "/".join(["d" * 99] * 41)
    accents = ("é", "e\N{COMBINING ACUTE ACCENT}")
    for name, what, keys, note in (
        ("case", "keys that differ in case only", ("Photo", "photo"), "both are kept apart"),
        ("accents", "keys that differ in Unicode normalisation only", accents, "both are kept apart"),
        ("odd", "names with spaces and ` % # ? & [ *`", ("a b", "100%", "c#1", "d?e=f&g", "h[0]", "*"), ""),
        ("unicode", "names in other scripts", ("größe", "写真", "фото", "🙂"), ""),
        ("long", "a name of 300 bytes", (long,), "`unpack` shortens it"),
        ("deep", "a path of 4 KB", (deep + "/a",), "`unpack` shortens it"),
        ("dotted", "names that begin with `./`", ("./a", "a"), "both are kept apart"),
    ):
        data = tar(*(member(f"{key}.png") for key in keys))
        yield shard(name, what, data, dict.fromkeys(keys, NO_FACE), note)
    own = ("json", "restored.png", "face00.png", "error.json", "dr2e.json")
    data = tar(member("a.jpg"), *(member(f"a.{extension}", b"mine") for extension in own))
    note = "they are kept; ours are called `KEY.dr2e.json` and the like"
    yield shard("own-names", "sidecars with the names of our results", data, {"a": NO_FACE}, note)
    data = tar(
        member("d/", b"", tarfile.DIRTYPE), member("d/a.png"), member("d/._a.png", b"mac"), member("d/a.txt", b"")
    )
    yield shard(
        "mac",
        "folder entries, macOS's `._` files, an empty sidecar",
        data,
        {"d/a": NO_FACE},
        "the first two are left out",
    )
    data = tar(member("selfsame.tar.png"))[:-1024]
    fates = {
        "selfsame": rejected("sample.cut", "…, so members may be missing; transfer the shard again"),
        "selfsame.tar": rejected("shard.truncated", "the archive was cut: …; transfer it again"),
    }
    yield shard("selfsame", "a photo called like its cut shard", data, fates, "both have their row")
