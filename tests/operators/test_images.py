"""Decoding: every kind of picture comes out right, every bad one gets its code."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from operators.images import IMAGE_EXTENSIONS, ImageError, ImageLimits, decode, encode_png, to_grey


def scene(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A smooth colour picture without symmetry, so that a wrong turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 256], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A tiny PNG file that claims to be `width` x `height`."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def code_of(data: bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    assert "\n" not in caught.value.message
    return caught.value.code


@pytest.mark.parametrize("format_", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_colour_is_exact(format_: str) -> None:
    picture = decode(encoded(Image.fromarray(scene()), format_))
    assert np.array_equal(picture.pixels, scene())
    assert (picture.grey, picture.alpha, picture.mode) == (False, None, "RGB")
    assert picture.pixels.flags.writeable


@pytest.mark.parametrize(
    ("format_", "options"),
    [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("AVIF", {"quality": 95}), ("JPEG2000", {})],
)
def test_lossy_colour_is_close(format_: str, options: dict[str, Any]) -> None:
    smooth = np.stack([np.add.outer(np.arange(48), np.arange(64))] * 3, axis=-1).astype(np.uint8)
    smooth[..., 1] //= 2
    picture = decode(encoded(Image.fromarray(smooth), format_, **options))
    assert np.abs(picture.pixels.astype(int) - smooth).mean() < 3
    assert not picture.grey


def test_every_extension_listed_is_one_pillow_can_open() -> None:
    Image.init()
    assert set(Image.EXTENSION) >= IMAGE_EXTENSIONS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_undone(orientation: int, format_: str) -> None:
    # What a camera stores so that a viewer, turning it as told, shows the scene.
    turned_by_camera = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: np.rot90(a, 2),
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = np.ascontiguousarray(turned_by_camera[orientation](scene()))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_ == "WEBP" else {}
    picture = decode(encoded(Image.fromarray(stored), format_, exif=exif, **options))
    assert np.array_equal(picture.pixels, scene())


def test_alpha_turns_with_the_pixels() -> None:
    rgba = np.dstack([scene(), scene()[..., 0]])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(encoded(Image.fromarray(np.ascontiguousarray(np.rot90(rgba))), "PNG", exif=exif))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, rgba[..., 3])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_the_picture() -> None:
    data = encoded(Image.fromarray(scene()), "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert np.array_equal(decode(data).pixels, scene())


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_deep_grey_uses_its_real_range(bits: int, format_: str) -> None:
    ramp = np.linspace(0, 2**bits - 1, 64 * 48).reshape(48, 64).round().astype(np.uint16)
    picture = decode(encoded(Image.fromarray(ramp), format_))
    expected = ramp.astype(np.float64) * 255 / (2**bits - 1)
    assert picture.grey
    assert np.abs(picture.pixels[..., 0] - expected).max() <= 0.51
    assert np.array_equal(picture.pixels, to_grey(picture.pixels))


def test_big_endian_deep_grey() -> None:
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(">u2")
    picture = decode(encoded(Image.frombytes("I;16B", (64, 48), ramp.tobytes()), "TIFF"))
    assert picture.pixels.min() == 0
    assert picture.pixels.max() == 255
    assert (np.diff(picture.pixels[..., 0].ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_grey_uses_its_real_range(top: float) -> None:
    ramp = np.linspace(0, top, 64 * 48, dtype=np.float32).reshape(48, 64)
    ramp[0, 0] = np.nan
    picture = decode(encoded(Image.fromarray(ramp), "TIFF"))
    assert picture.grey
    assert np.abs(picture.pixels[..., 0] - np.nan_to_num(ramp) * 255 / top).max() <= 0.51


def test_black_deep_grey_stays_black() -> None:
    assert decode(encoded(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG")).pixels.max() == 0


def test_colour_of_16_bits_is_not_blackened() -> None:
    wide = scene().astype(">u2") * 257
    header = b"P6 64 48 65535\n"
    assert np.abs(decode(header + wide.tobytes()).pixels.astype(int) - scene()).max() <= 1


@pytest.mark.parametrize(
    ("mode", "grey"),
    [("1", True), ("L", True), ("LA", True), ("RGB", False), ("RGBA", False), ("P", False)],
)
def test_grey_is_known_from_the_mode(mode: str, grey: bool) -> None:
    picture = decode(encoded(Image.fromarray(scene()).convert(mode), "PNG"))
    assert picture.mode == mode
    assert picture.grey is grey
    assert picture.pixels.shape == (48, 64, 3)


def test_colour_file_with_equal_channels_is_grey_and_one_odd_pixel_makes_it_colour() -> None:
    pixels = to_grey(scene())
    assert decode(encode_png(pixels)).grey
    pixels[7, 9, 2] ^= 1
    assert not decode(encode_png(pixels)).grey


def test_one_bit_is_black_and_white() -> None:
    bits = scene()[..., 0] > 100
    picture = decode(encoded(Image.fromarray(bits), "TIFF", compression="group4"))
    assert np.array_equal(picture.pixels[..., 1], bits * np.uint8(255))


def test_palette_with_transparency() -> None:
    palette = Image.fromarray(scene()).quantize(16)
    colours = np.array(palette.convert("RGB"))
    indices = np.array(palette)
    picture = decode(encoded(palette, "PNG", transparency=3))
    assert picture.mode == "P"
    assert np.array_equal(picture.pixels, colours)
    assert np.array_equal(picture.alpha, np.where(indices == 3, 0, 255))


def test_opaque_alpha_is_no_alpha() -> None:
    assert decode(encoded(Image.fromarray(scene()).convert("RGBA"), "PNG")).alpha is None


def test_cmyk_jpeg_is_not_inverted() -> None:
    picture = decode(encoded(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95))
    assert picture.mode == "CMYK"
    assert np.abs(picture.pixels.astype(int) - scene()).mean() < 6


def swapped_profile() -> bytes:
    """The sRGB profile under another name and with its red and blue primaries exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"????"), (b"bXYZ", b"rXYZ"), (b"????", b"bXYZ")):
        data = data.replace(old, new, 1)
    return data.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_embedded_profile_is_honoured(format_: str) -> None:
    """With a profile whose red is sRGB's blue, a picture comes out with those channels exchanged."""
    picture = decode(encoded(Image.fromarray(scene()), format_, icc_profile=swapped_profile()))
    assert np.abs(picture.pixels.astype(int) - scene()[..., ::-1]).max() <= 3


def test_srgb_and_damaged_profiles_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (srgb, srgb[:200], b"nonsense"):
        assert np.array_equal(decode(encoded(Image.fromarray(scene()), "TIFF", icc_profile=data)).pixels, scene())


def test_grey_stays_grey_under_a_colour_profile() -> None:
    grey = to_grey(scene())
    picture = decode(encoded(Image.fromarray(grey), "PNG", icc_profile=swapped_profile()))
    assert picture.grey
    assert np.array_equal(picture.pixels, grey)


def test_first_of_several_frames() -> None:
    second = Image.fromarray(255 - scene())
    data = encoded(Image.fromarray(scene()), "WEBP", save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(decode(data).pixels, scene())


# --- bad input ---------------------------------------------------------------------------------


def test_empty_file() -> None:
    assert code_of(b"") == "image.empty"


@pytest.mark.parametrize("data", [b"this is text, whatever its name says\n" * 9, bytes(range(256)) * 4])
def test_not_a_picture(data: bytes) -> None:
    assert code_of(data) == "image.unreadable"


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n",
        b"%PDF-1.7\n",
        b"  <svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
    ],
)
def test_known_kinds_that_are_not_read_say_what_they_are(data: bytes) -> None:
    assert code_of(data) == "image.unsupported"


@pytest.mark.parametrize("fraction", [0.98, 0.5, 0.2])
@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("GIF", {}),
        ("PPM", {}),
    ],
)
def test_cut_off_pictures(format_: str, options: dict[str, Any], fraction: float) -> None:
    whole = encoded(Image.fromarray(scene(240, 320)), format_, **options)
    assert decode(whole).pixels.shape == (240, 320, 3)
    assert code_of(whole[: int(len(whole) * fraction)]) == "image.truncated"


def test_damaged_middle() -> None:
    data = bytearray(encoded(Image.fromarray(scene(240, 320)), "PNG"))
    middle = len(data) // 3
    data[middle : middle + 40] = bytes(b ^ 0x5A for b in data[middle : middle + 40])
    assert code_of(bytes(data)) == "image.unreadable"


def test_bomb_is_refused_before_decoding() -> None:
    assert code_of(png_of_size(30_000, 30_000)) == "image.too_large"


def test_pixel_limit_is_exact() -> None:
    data = encode_png(scene(10, 10))
    assert decode(data, ImageLimits(max_pixels=100)).pixels.shape == (10, 10, 3)
    assert code_of(data, ImageLimits(max_pixels=99)) == "image.too_large"


@pytest.mark.filterwarnings("error")
def test_our_limit_replaces_pillows_guard_and_leaves_it_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert decode(encode_png(scene())).pixels.shape == (48, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_byte_limit() -> None:
    data = encode_png(scene())
    assert code_of(data, ImageLimits(max_bytes=len(data) - 1)) == "image.too_large"


def test_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("image.empty", "the file is empty")))
    assert (error.code, error.message) == ("image.empty", "the file is empty")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_damage_raises_image_errors_and_nothing_else(format_: str) -> None:
    whole = encoded(Image.fromarray(scene()), format_)
    rng = np.random.default_rng(len(whole))
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 400), 4):  # headers, where it hurts
            data[place] = rng.integers(256)
        try:
            picture = decode(bytes(data), ImageLimits(max_pixels=10**6))
        except ImageError:
            continue
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.shape[2:] == (3,)


# --- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_png_round_trip(grey: bool, with_alpha: bool) -> None:
    pixels = to_grey(scene()) if grey else scene()
    alpha = np.ascontiguousarray(255 - scene()[..., 1]) if with_alpha else None
    data = encode_png(pixels, grey=grey, alpha=alpha)
    picture = decode(data)
    assert np.array_equal(picture.pixels, pixels)
    assert picture.grey is grey
    assert picture.mode == ("L" if grey else "RGB") + ("A" if with_alpha else "")
    assert (picture.alpha is None) if alpha is None else np.array_equal(picture.alpha, alpha)
    assert encode_png(pixels, grey=grey, alpha=alpha) == data


def test_to_grey_is_bt601_and_keeps_grey() -> None:
    expected = (scene() @ np.array([0.299, 0.587, 0.114])).round()
    assert np.abs(to_grey(scene())[..., 0] - expected).max() <= 1
    every_grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    assert np.array_equal(to_grey(every_grey), every_grey)
