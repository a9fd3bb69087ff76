"""Photos that are odd and yet understood: their pixels are read, and the face in them is restored."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from faults.zoo.encode import encoded, face, frames, jpeg, png, raw_png
from faults.zoo.exhibit import NO_FACE, PHOTOS, RESTORED, Exhibit, Fate


def photo(key: str, what: str, data: bytes, fate: Fate, extension: str = "jpg", note: str = "") -> Exhibit:
    """An exhibit that is a photo: one member of the shard of all photos."""
    return Exhibit(key, what, PHOTOS, {key: fate}, note=note, members=((f"{key}.{extension}", data),))


def understood() -> Iterator[Exhibit]:
    """Every exhibit of this kind."""
    for key, what, extension, data, note in _restored():
        yield photo(key, what, data, RESTORED, extension, note)
    yield photo("one-pixel", "a picture of 1 x 1 pixel", raw_png(1, 1, 8, 0, b"\0\x80"), NO_FACE, "png")
    yield photo("row", "a picture of 65,500 x 1 pixels", _line(65_500, 1), NO_FACE, "png")
    yield photo("column", "a picture of 1 x 65,500 pixels", _line(1, 65_500), NO_FACE, "png")


def _line(width: int, height: int) -> bytes:
    return raw_png(width, height, 8, 0, (b"\0" + b"\x80" * width) * height)


def _restored() -> Iterator[tuple[str, str, str, bytes, str]]:
    """(key, what, extension, bytes, note)."""
    colour, grey = face(), face().convert("L")
    rgb = np.asarray(colour)

    first = "the first picture is restored"
    yield "gif", "an animated GIF", "gif", _several("GIF", duration=100), first
    yield "webp", "an animated WebP", "webp", _several("WEBP", quality=90), first
    yield "apng", "an animated PNG", "png", _several("PNG"), first
    yield "pages", "a TIFF of several pages", "tif", _several("TIFF"), first
    yield "mpo", "a phone's MPO: two views in one JPEG", "jpg", _several("MPO"), first

    yield "png-as-jpg", "a PNG named .jpg", "jpg", png(), "the content decides, not the name"
    yield "jpg-as-png", "a JPEG named .png", "png", jpeg(), "the content decides, not the name"
    yield "shout", "an extension in capitals", "JPG", jpeg(), ""
    yield "trailing", "a JPEG with foreign bytes behind its end", "jpg", jpeg() + b"appended " * 99, "they are ignored"

    yield "cmyk", "a CMYK JPEG, as printers use", "jpg", encoded(colour.convert("CMYK"), "JPEG", quality=95), ""
    yield "ycck", "a CMYK TIFF", "tif", encoded(colour.convert("CMYK"), "TIFF"), ""
    yield "lab", "a TIFF in CIE L*a*b*", "tif", encoded(_lab(), "TIFF"), ""
    yield "ycbcr", "a TIFF in YCbCr", "tif", encoded(colour, "TIFF", compression="jpeg"), ""
    yield "grey", "a grey JPEG", "jpg", encoded(grey, "JPEG", quality=90), "the result is grey"
    yield "one-bit", "a picture of 1 bit, black and white", "png", encoded(colour.convert("1"), "PNG"), ""
    yield "grey-alpha", "grey with transparency", "png", encoded(grey.convert("LA"), "PNG"), ""
    yield "palette", "a palette with a transparent colour", "png", _palette(), "the result keeps the transparency"
    yield "alpha", "colour with transparency", "png", _transparent(), "the result keeps the transparency"

    deep = np.asarray(grey).astype(np.uint16)
    note = "white is taken from the brightest pixel"
    yield "grey-16", "grey of 16 bits", "png", encoded(Image.fromarray(deep * 257), "PNG"), note
    yield "grey-12", "grey of 12 bits stored in 16", "tif", encoded(Image.fromarray(deep * 16), "TIFF"), note
    yield "rgb-16", "colour of 16 bits per channel", "png", _rgb16(rgb), "the upper 8 bits count"
    yield "float", "floating-point grey with NaN and infinity in it", "tif", _float(deep), "those pixels become black"

    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f"
    yield "exif", "broken EXIF data", "jpg", jpeg(exif=exif), "they are ignored"
    yield "orientation-0", "an EXIF orientation of 0", "jpg", jpeg(exif=_orientation(0)), "it is ignored"
    yield "orientation-9", "an EXIF orientation of 9", "jpg", jpeg(exif=_orientation(9)), "it is ignored"
    sideways = encoded(colour.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=_orientation(6))
    yield "orientation-6", "a photo on its side that EXIF turns upright", "jpg", sideways, "the result is upright"
    yield "icc", "a broken colour profile", "jpg", jpeg(icc_profile=b"no profile" * 20), "it is ignored"
    yield "loop", "a TIFF whose directories form a loop", "tif", _loop(), first


def _several(format_: str, **options: object) -> bytes:
    return encoded(face(), format_, save_all=True, append_images=frames(), **options)


def _lab() -> Image.Image:
    from PIL import ImageCms

    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    turned = ImageCms.profileToProfile(face(), srgb, lab, outputMode="LAB")
    assert turned is not None
    return turned


def _palette() -> bytes:
    return encoded(face().quantize(64), "PNG", transparency=3)


def _transparent() -> bytes:
    image = face().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return encoded(image, "PNG")


def _rgb16(rgb: np.ndarray) -> bytes:
    height, width = rgb.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in rgb.astype(">u2") * np.uint16(257))
    return raw_png(width, height, 16, 2, rows)


def _float(deep: np.ndarray) -> bytes:
    values = deep.astype(np.float32) / 255
    values[0, :3] = np.nan, np.inf, -np.inf
    return encoded(Image.fromarray(values), "TIFF")


def _orientation(value: int) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, value, 0)


def _loop() -> bytes:
    """A TIFF whose only directory names itself as the next one."""
    whole = bytearray(encoded(face(), "TIFF"))
    (place,) = struct.unpack_from("<I", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, place)
    struct.pack_into("<I", whole, place + 2 + 12 * entries, place)
    return bytes(whole)
