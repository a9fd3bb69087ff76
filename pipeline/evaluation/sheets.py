"""Contact sheets: faces of one setting below each other, every version beside the truth."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from operators.images import ImageError, decode
from pipeline.evaluation.results import FaceResult, PhotoResult, Version
from pipeline.evaluation.sample import photo_name, rank
from pipeline.evaluation.settings import Setting
from pipeline.ledger import LedgerError

ROWS = 8
"""Faces on a sheet at most."""

_TITLES = ("input, bicubic", "{remover}", "{remover} + enhancer", "truth")
_LINE = 16  # pixels: height of a line of text
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


def sheets(
    photos: Iterable[PhotoResult], settings: Sequence[Setting], shown: Sequence[str], remover: str = "DR2"
) -> Iterator[tuple[Setting, bytes]]:
    """A PNG per setting, of the first photos by rank that were measured; none where there is no such photo.

    shown: the photos that may have strips, as `photo_name` has them. remover: what removed degradation.
    """
    allowed = set(shown)
    chosen = [p for p in photos if p.status == "measured" and photo_name(p.shard, p.key) in allowed]
    chosen = sorted(chosen, key=lambda photo: (rank(photo.key), photo.shard))
    for setting in settings:
        faces = [(photo.key, face) for photo in chosen for face in photo.faces if face.setting == setting.name]
        rows = [(key, face) for key, face in faces if face.strip is not None][:ROWS]
        if rows:
            yield setting, _sheet(setting, rows, [title.format(remover=remover) for title in _TITLES])


def _sheet(setting: Setting, rows: Sequence[tuple[str, FaceResult]], titles: Sequence[str]) -> bytes:
    strips = [_strip(face.strip) for _, face in rows if face.strip is not None]
    width, height = strips[0].size
    page = Image.new("RGB", (width, _LINE + len(strips) * (height + _LINE)), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default()

    def write(texts: Sequence[str], top: int) -> None:
        for column, text in enumerate(texts):
            draw.text((column * height + 4, top + 2), text, fill=_INK, font=font)

    write([f"{setting.severity}, r = {setting.r}: {titles[0]}", *titles[1:]], 0)
    for place, (strip, (key, face)) in enumerate(zip(strips, rows, strict=True)):
        top = _LINE + place * (height + _LINE)
        page.paste(strip, (0, top))
        write([*_captions(face), key], top + height)
    out = io.BytesIO()
    page.save(out, format="PNG")
    return out.getvalue()


def _strip(data: bytes) -> Image.Image:
    try:
        return Image.fromarray(decode(data).pixels)
    except ImageError as error:
        raise LedgerError(f"a strip of a stored face is no picture: {error}; delete its unit and run again") from None


def _captions(face: FaceResult) -> list[str]:
    came, clean, final = (_scores(version) for version in face.versions)
    chosen = "kept: " if face.status == "kept" else "" if face.n is None else f"N {face.n}, tau {face.tau}: "
    return [came, chosen + clean, final]


def _scores(version: Version) -> str:
    psnr, niqe = (version.values.get(name) for name in ("psnr", "niqe"))
    parts = [] if psnr is None else [f"PSNR {psnr:.2f}"]
    return "  ".join([*parts, "NIQE -" if niqe is None else f"NIQE {niqe:.2f}"])
