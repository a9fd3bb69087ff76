"""A small photograph of a face, and files made of it byte by byte where no library would write them."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from skimage.data import astronaut

Pixels = np.ndarray


@cache
def face() -> Image.Image:
    """Eileen Collins (NASA, public domain), 96 x 117: small, and found by the built-in detector."""
    return Image.fromarray(astronaut()[0:280, 110:340]).resize((96, 117), Image.Resampling.LANCZOS)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def jpeg(**options: Any) -> bytes:
    """The face as JPEG."""
    return encoded(face(), "JPEG", **{"quality": 90, **options})


def png(**options: Any) -> bytes:
    """The face as PNG."""
    return encoded(face(), "PNG", **options)


def frames() -> list[Image.Image]:
    """Pages or frames that may follow the face: no face is in them."""
    return [Image.new("RGB", face().size, colour) for colour in ("red", "blue")]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of the given header (colour 0 grey, 2 RGB), filtered rows and further chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def png_with(*extra: bytes) -> bytes:
    """The face as PNG with chunks behind its header."""
    whole = png()
    return whole[:33] + b"".join(extra) + whole[33:]


def tiff_of_size(width: int, height: int) -> bytes:
    """A little-endian TIFF whose directory says it is 8-bit grey of this size; its pixels are missing."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, width)]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
