"""Bytes to pixels and back, for whatever an archive holds, without trusting it.

Size is checked before anything is decoded; only raster formats are opened (some of Pillow's
other plugins start programs); every failure is an ImageError with a stable code:

    image.empty        no bytes, or a picture without pixels
    image.too_large    more bytes or pixels than the limits allow
    image.unsupported  a known kind of file that is not read here (PDF, HEIC, SVG, ...)
    image.unreadable   not a picture, or a damaged one
    image.truncated    a picture whose end is missing

Of a file with several pictures (animation, pages, a phone's extra views) the first is read.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from operators.colour import to_srgb

IMAGE_EXTENSIONS: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff", ".bmp"}
    | {".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx"}
)
# Pillow's names of the formats behind those ("JPEG" opens .mpo as well). Each has a signature, so
# that text is never taken for a picture, and none needs another program (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000")

_CONVERT = "convert it to JPEG, PNG or TIFF"
_DOWNLOAD = "perhaps a server's answer in place of the picture; download it again"
_UNPACK = "unpack it first"
_STILL = "take a still picture from it"

# Where a signature starts, the signature (in lower case), what to call the file, what to do about it.
_UNSUPPORTED = (
    (0, b"%pdf", "a PDF document", _CONVERT),
    (0, b"%!ps", "a PostScript file", _CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file", _CONVERT),
    (0, b"<svg", "an SVG drawing", _CONVERT),
    (0, b"<!doctype html", "a web page", _DOWNLOAD),
    (0, b"<html", "a web page", _DOWNLOAD),
    (0, b"<?xml", "an XML file", _DOWNLOAD),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the picture with 'git lfs pull'"),
    (0, b"8bps", "a Photoshop document", _CONVERT),
    (0, b"\x00\x00\x01\x00", "an icon", _CONVERT),
    (0, b"ii*\x00\x10\x00\x00\x00cr", "a camera raw file", _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (4, b"jxl ", "a JPEG XL picture", _CONVERT),
    (4, b"ftyphei", "an HEIC picture", _CONVERT),
    (4, b"ftyphev", "an HEIC picture", _CONVERT),
    (4, b"ftypmif1", "an HEIC picture", _CONVERT),
    (4, b"ftypisom", "a video", _STILL),
    (4, b"ftypmp4", "a video", _STILL),
    (4, b"ftypqt", "a video", _STILL),
    (0, b"\x1ae\xdf\xa3", "a video", _STILL),
    (0, b"pk\x03\x04", "a ZIP archive", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
)
_DAMAGED = (
    (0, b"\xff\xd8", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (4, b"ftypavi", "AVIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
)

_ANOTHER = "copy it again, or take another version of it"
_SMALLER = "make it smaller, or raise"

_LUMA = np.array([19595, 38470, 7471], dtype=np.uint32)  # BT.601: 0.299, 0.587, 0.114 in 1/65536
_open_lock = threading.Lock()


class ImageError(ValueError):
    """A picture that cannot be used. `code` is stable (see the module), `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.code, self.message)


@dataclass(frozen=True)
class ImageLimits:
    """What one picture may cost: encoded bytes, and pixels (width x height) once decoded."""

    max_pixels: int = 200_000_000
    max_bytes: int = 256 * 2**20


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright as its EXIF orientation says.

    pixels: (H, W, 3) uint8 RGB; colours under transparent pixels are as stored.
    grey: the file stores grey, or red, green and blue are equal everywhere.
    alpha: (H, W) uint8, or None when every pixel is opaque.
    mode: Pillow's name of how the file stores pixels: "L", "RGB", "P", "CMYK", "I;16", ...
    """

    pixels: NDArray[np.uint8]
    grey: bool
    alpha: NDArray[np.uint8] | None
    mode: str


def decode(data: bytes, limits: ImageLimits | None = None) -> Picture:
    """Decode the first picture in `data` within `limits`; raises ImageError, and nothing else.

    Grey deeper than 8 bits is scaled so that white is the top of the smallest of 8, 10, 12, 14, 16,
    24 and 32 bits that holds its brightest pixel: scanners store 12 bits in 16, and reading those as
    16 gives a black picture. Floating point is taken as 0-1 if nothing exceeds 1, else likewise.
    Colour of 16 bits per channel keeps its upper 8. Opaque colour with an embedded profile becomes sRGB.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageError("image.empty", "the file is empty; copy it again")
    if len(data) > limits.max_bytes:
        message = f"{len(data):,} bytes exceed the limit of {limits.max_bytes:,}; {_SMALLER} limits.max_bytes"
        raise ImageError("image.too_large", message)
    try:
        image = _open(data, limits)
        mode = image.mode
        image.load()
        pixels, alpha = _to_rgb(image)
        pixels = _upright(pixels, _orientation(image))
        alpha = None if alpha is None else _upright(alpha, _orientation(image))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        message = f"it exceeds the limit of {limits.max_pixels:,} pixels; {_SMALLER} limits.max_pixels"
        raise ImageError("image.too_large", message) from error
    except MemoryError:
        raise  # says something about the machine, and about the picture only where it was alone
    except Exception as error:  # Pillow's plugins raise whatever their parsing ran into
        raise _damaged(data, error) from error
    stored_grey = mode in ("1", "L", "LA", "La") or _is_deep(mode)
    return Picture(pixels, stored_grey or _equal_channels(pixels), alpha, mode)


def encode_png(pixels: NDArray[np.uint8], *, grey: bool = False, alpha: NDArray[np.uint8] | None = None) -> bytes:
    """PNG bytes of `pixels` (H, W, 3) uint8, with `alpha` (H, W) uint8 if given, and no metadata.

    `grey` stores one channel, the BT.601 luma (which is the channel itself where all three agree).
    One Pillow release gives the same bytes every time.
    """
    image = Image.fromarray(pixels)
    if grey:
        image = image.convert("L")
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    out = io.BytesIO()
    image.save(out, format="PNG", compress_level=4)  # level 6 takes half as long again for 0.1 %
    return out.getvalue()


def to_grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`pixels` (..., 3) uint8 RGB with every channel replaced by the BT.601 luma, rounded.

    Pixels that are grey already stay exactly as they are.
    """
    luma = (pixels.astype(np.uint32) @ _LUMA + 32768) >> 16
    return np.repeat(luma.astype(np.uint8)[..., None], 3, axis=-1)


def _open(data: bytes, limits: ImageLimits) -> ImageFile.ImageFile:
    """Read the header under our pixel limit; decodes nothing."""
    with _pixel_guard(limits.max_pixels):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if image.width * image.height > limits.max_pixels:
        raise ImageError(
            "image.too_large",
            f"{image.width} x {image.height} pixels exceed the limit of {limits.max_pixels:,}; "
            f"{_SMALLER} limits.max_pixels",
        )
    if image.width * image.height == 0:
        raise ImageError("image.empty", "the picture has no pixels; take another version of it")
    return image


@contextmanager
def _pixel_guard(max_pixels: int) -> Iterator[None]:
    """Make Pillow's decompression-bomb guard refuse what is above `max_pixels`, silently below.

    The guard is a global of Pillow that refuses at twice its value and warns from once. Some formats
    allocate the whole canvas while they are opened, so a check afterwards would come too late.
    """
    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _to_rgb(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """RGB (H, W, 3) uint8 and, where something is transparent, alpha (H, W) uint8."""
    if _is_deep(image.mode):
        return _deep_grey(image), None
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        alpha = np.ascontiguousarray(rgba[..., 3])
        return np.ascontiguousarray(rgba[..., :3]), None if (alpha == 255).all() else alpha
    if image.mode == "RGB" and _equal_channels(np.asarray(image)):
        return np.array(image), None  # a profile would tint grey by a rounding here and there
    return np.array(to_srgb(image).convert("RGB")), None


def _is_deep(mode: str) -> bool:
    """Whether Pillow's `mode` is one of grey with more than 8 bits."""
    return mode in ("I", "F") or mode.startswith("I;")


def _deep_grey(image: Image.Image) -> NDArray[np.uint8]:
    """Grey of more than 8 bits as RGB (H, W, 3) uint8, with white where `decode` says it is."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    brightest = float(values.max())
    if image.mode == "F" and brightest <= 1:
        white = 1.0
    else:
        tops = (2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 32))
        white = next((top for top in tops if brightest <= top), brightest)
    levels = np.clip(values * (255 / white) + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; 1 when there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return 1


def _upright(array: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """`array` (H, W, ...) as EXIF `orientation` asks to show it (Exif 2.32, tag 274)."""
    if orientation in (5, 6, 7, 8):  # rows and columns are exchanged
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def _equal_channels(pixels: NDArray[np.uint8]) -> bool:
    """Whether red, green and blue agree everywhere; a sparse look settles nearly every colour photo."""
    for view in (pixels[::16, ::16], pixels):
        if not ((view[..., 0] == view[..., 1]).all() and (view[..., 1] == view[..., 2]).all()):
            return False
    return True


def _damaged(data: bytes, error: Exception) -> ImageError:
    """The ImageError for a file that Pillow refused with `error`."""
    if _ends_early(data):
        return _truncated("its header promises more")
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(data)
    reason = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in reason.lower():
        return _truncated(reason)
    if "MAX_TEXT" in reason:  # Pillow's guard against a compressed text that fills the memory
        return ImageError("image.too_large", "a text in it unpacks to too many bytes; save it without metadata")
    return ImageError("image.unreadable", f"the picture is damaged ({reason}); {_ANOTHER}")


def _unidentified(data: bytes) -> ImageError:
    """The ImageError for a file that no decoder took for its own."""
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for offset, signature, name, remedy in _UNSUPPORTED:
        if start[offset:].startswith(signature):
            return ImageError("image.unsupported", f"{name}; {remedy}")
    for offset, signature, name in _DAMAGED:
        if data[offset:].startswith(signature):
            return ImageError("image.unreadable", f"the beginning of this {name} picture is damaged; {_ANOTHER}")
    return ImageError("image.unreadable", f"not a picture (it begins with {data[:12]!r}); {_ANOTHER}")


def _truncated(reason: str) -> ImageError:
    return ImageError("image.truncated", f"the end of the picture is missing ({reason}); copy it again")


def _ends_early(data: bytes) -> bool:
    """Whether a WebP or TIFF says that it goes on after the last byte (Pillow's errors do not tell)."""
    if data.startswith(b"RIFF"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith((b"II*\x00", b"MM\x00*")):
        return len(data) < int.from_bytes(data[4:8], "little" if data.startswith(b"II") else "big")
    return False
