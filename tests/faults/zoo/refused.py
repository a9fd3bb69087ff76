"""Photos that cannot be read, each with the reason a person is given."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from faults.zoo.encode import chunk, encoded, face, jpeg, png, png_with, raw_png, tiff_of_size
from faults.zoo.exhibit import MAX_BYTES, Exhibit, rejected
from faults.zoo.understood import photo


def refused() -> Iterator[Exhibit]:
    """Every exhibit of this kind."""
    for code, says, kinds in (
        ("image.empty", "the file is empty; copy it again", _empty()),
        ("image.truncated", "the end of the picture is missing (…); copy it again", _cut()),
        ("image.unreadable", "; copy it again, or take another version of it", _damaged()),
        ("image.too_large", "it exceeds the limit of … pixels; make it smaller, or raise limits.max_pixels", _bombs()),
        ("image.too_large", "bytes exceed the limit of …; make it smaller, or raise limits.max_bytes", _heavy()),
        ("image.too_large", "a text in it unpacks to too many bytes; save it without metadata", _texts()),
        ("image.unsupported", "; convert it to JPEG, PNG or TIFF", _unsupported()),
        ("image.unsupported", "", _mistaken()),
    ):
        for key, what, extension, data, *own in kinds:
            yield photo(key, what, data, rejected(code, (own[0] if own else "") + says), extension)


_Kind = tuple[str, str, str, bytes] | tuple[str, str, str, bytes, str]
"""(key, what, extension, bytes), and how what the message says begins."""


def _empty() -> Iterator[_Kind]:
    yield "empty", "an empty file", "jpg", b""


def _cut() -> Iterator[_Kind]:
    whole = jpeg()
    yield "cut-header", "a JPEG cut in its header", "jpg", whole[:15]
    yield "cut-jpg", "a JPEG cut in the middle", "jpg", whole[: len(whole) // 2]
    yield "cut-end", "a JPEG without its last bytes", "jpg", whole[:-40]
    progressive = jpeg(progressive=True)
    yield (
        "cut-progressive",
        "a progressive JPEG without its last scan",
        "jpg",
        progressive[: len(progressive) * 8 // 10],
    )
    for key, format_ in (("png", "PNG"), ("tif", "TIFF"), ("webp", "WEBP"), ("gif", "GIF"), ("bmp", "BMP")):
        whole = encoded(face(), format_)
        yield f"cut-{key}", f"a {format_} cut in the middle", key, whole[: len(whole) // 2]


def _damaged() -> Iterator[_Kind]:
    damaged, nothing = "the picture is damaged (…)", "not a picture (it begins with …)"
    whole = bytearray(png())
    whole[-20] ^= 0xFF
    yield "crc", "a PNG with a wrong checksum", "png", bytes(whole), damaged
    whole = bytearray(png())
    whole[len(whole) // 2 : len(whole) // 2 + 40] = b"\xa5" * 40
    yield "middle", "a PNG with some bytes overwritten", "png", bytes(whole), damaged
    cut = encoded(face(), "JPEG2000")
    yield "cut-jp2", "a JPEG 2000 cut in the middle", "jp2", cut[: len(cut) // 2], damaged
    yield (
        "png-0x0",
        "a PNG of 0 x 0 pixels",
        "png",
        raw_png(0, 0, 8, 0, b""),
        "the beginning of this PNG picture is damaged",
    )
    yield "gif-0x0", "a GIF of 0 x 0 pixels", "gif", _gif(0, 0), "the beginning of this GIF picture is damaged"
    yield "lossless", "a lossless JPEG, as some scanners write", "jpg", _lossless(), damaged
    yield "text", "text named .jpg", "jpg", b"this is no photograph\n" * 20, nothing
    yield "zeros", "a file of zeros, as a crashed copy leaves", "jpg", bytes(4096), nothing
    yield "noise", "random bytes, such as an encrypted file", "jpg", np.random.default_rng(0).bytes(4096), nothing
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("photo.jpg"))
    yield "tar", "a tar named .jpg", "jpg", out.getvalue(), nothing


def _bombs() -> Iterator[_Kind]:
    side = 30_000
    yield "bomb-png", "a small PNG that says it is 30,000 x 30,000", "png", raw_png(side, side, 8, 2, b"\0")
    yield "bomb-gif", "a GIF with a canvas that large", "gif", _gif(side, side)
    yield "bomb-bmp", "a BMP that large", "bmp", _bmp(side, side)
    yield "bomb-tif", "a TIFF that large", "tif", tiff_of_size(side, side)
    yield "bomb-ppm", "a PPM that large", "ppm", b"P6 30000 30000 255\n"
    yield "bomb-jp2", "a JPEG 2000 that large", "jp2", _jp2(side, side)
    yield "bomb-jpg", "a JPEG that large", "jpg", _jpeg_of_size(side, side)
    yield "pixels", "a picture of a few more pixels than `limits.max_pixels`", "png", _flat(2001, 2000)


def _heavy() -> Iterator[_Kind]:
    yield "bytes", "a file of more bytes than `limits.max_bytes`", "jpg", jpeg() + bytes(MAX_BYTES)


def _texts() -> Iterator[_Kind]:
    yield "ztxt", "a text chunk of a PNG that unpacks to 100 MB", "png", _text_bomb(b"zTXt")
    yield "itxt", "the same in an international text chunk", "png", _text_bomb(b"iTXt")


def _unsupported() -> Iterator[_Kind]:
    yield "svg", "an SVG drawing", "jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"
    yield "pdf", "a PDF", "jpg", b"%PDF-1.7\n", "a PDF document"
    yield (
        "ps",
        "a PostScript file, which is not run",
        "jpg",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(x) print\n",
        "a PostScript file",
    )
    yield "heic", "a phone's HEIC", "jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "an HEIC picture"
    yield "psd", "a Photoshop document", "jpg", b"8BPS\0\1" + bytes(64), "a Photoshop document"
    yield "ico", "an icon", "jpg", b"\0\0\1\0\1\0" + bytes(64), "an icon"
    yield "raw", "a camera's raw file", "tif", b"II*\0\x10\0\0\0CR\2\0" + bytes(64), "a camera raw file"
    yield "jxl", "a JPEG XL", "jpg", b"\xff\x0a" + bytes(64), "a JPEG XL picture"


def _mistaken() -> Iterator[_Kind]:
    page = b"<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>"
    answer = b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>'
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"
    video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    again = "perhaps a server's answer in place of the picture; download it again"
    yield "html", "a server's error page named .jpg", "jpg", page, f"a web page; {again}"
    yield "xml", "an object store's error answer named .jpg", "jpg", answer, f"an XML file; {again}"
    yield "pointer", "a Git LFS pointer", "jpg", pointer, "a Git LFS pointer; fetch the picture with 'git lfs pull'"
    yield "mp4", "a video", "jpg", video, "a video; take a still picture from it"
    yield (
        "mkv",
        "a Matroska or WebM video",
        "jpg",
        b"\x1aE\xdf\xa3" + bytes(64),
        "a video; take a still picture from it",
    )
    yield "gz", "a gzipped photo", "jpg", gzip.compress(jpeg(), mtime=0), "a gzip archive; unpack it first"
    yield "zip", "a ZIP named .jpg", "jpg", out.getvalue(), "a ZIP archive; unpack it first"


def _flat(width: int, height: int) -> bytes:
    return raw_png(width, height, 8, 0, (b"\0" + b"\x80" * width) * height)


def _bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def _jp2(width: int, height: int) -> bytes:
    """A JPEG 2000 codestream up to its size."""
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, 3) + b"\7\1\1" * 3
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size


def _jpeg_of_size(width: int, height: int) -> bytes:
    """The face's JPEG with another size in its frame header."""
    whole = bytearray(jpeg())
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def _gif(width: int, height: int) -> bytes:
    """A GIF of one frame, as large as its canvas, without pixels."""
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + size + b"\0\2\1\0\0;"


def _lossless() -> bytes:
    """The face's JPEG with the frame header of a lossless one."""
    return jpeg().replace(b"\xff\xc0", b"\xff\xc3", 1)


def _text_bomb(kind: bytes) -> bytes:
    """The face as PNG, with 100 MB of text in 100 KB."""
    body = b"Comment\0" + {b"zTXt": b"\0", b"iTXt": b"\1\0\0\0"}[kind]
    return png_with(chunk(kind, body + zlib.compress(bytes(100_000_000))))
