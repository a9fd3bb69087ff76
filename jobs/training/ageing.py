"""Makes a photograph look as archives have them: grey or sepia, faded, soft, grainy, scratched, compressed.

`age` is what time and scanners do, mostly gentle; `ruin` is that or the paper's Eq. 13, up to its worst.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from operators.degrade.blur import REFERENCE_SIZE
from operators.degrade.classical import DOWNSAMPLING, SEVERITIES, draw

SEPIA = ((255, 240, 205), (50, 30, 10))
"""White and black of a sepia print."""


RUINED = 0.3
"""Share of what `ruin` draws that suffers Eq. 13."""


def ruin(image: Image.Image, detail: float, rng: np.random.Generator) -> Image.Image:
    """A copy of an RGB image that is aged or, in `RUINED` of the draws, degraded by Eq. 13 of DR2E.

    Any of the paper's severities and factors r, scaled to a face of `detail` pixels: it suffers what a face of
    512 px does in the paper. A face too small for the largest r is aged: it could not be recognised.
    """
    if rng.random() >= RUINED or detail < REFERENCE_SIZE / max(DOWNSAMPLING):
        return age(image, detail, rng)
    severity = list(SEVERITIES)[int(rng.integers(len(SEVERITIES)))]
    r = DOWNSAMPLING[int(rng.integers(len(DOWNSAMPLING)))]
    toned = np.asarray(_tone(image, rng))
    return Image.fromarray(draw(severity, r, rng, round(detail)).apply(toned, rng))


def age(image: Image.Image, detail: float, rng: np.random.Generator) -> Image.Image:
    """A copy of an RGB image after a random choice of what time and scanners do.

    detail: size in pixels of the smallest thing that must stay recognisable (a face); it bounds the blur, so
    that a label never asks for what cannot be seen.
    """
    image = _tone(image, rng)
    if rng.random() < 0.2:
        return image
    soft = max(0.5, detail / 16)
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(_log_uniform(0.3, max(0.6, soft), rng)))
    if rng.random() < 0.3:
        image = _enlarge_again(image, _log_uniform(1.2, min(6.0, max(1.4, detail / 12)), rng), rng)
    if rng.random() < 0.15:
        _scratch(image, rng)
    if rng.random() < 0.45:
        image = _grain(image, _log_uniform(2, 22, rng), rng)
    if rng.random() < 0.45:
        image = _compress(image, int(rng.integers(25, 92)))
    return image


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _tone(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Colour cast, grey or sepia, then brightness, contrast and gamma, as one look-up table per channel."""
    kind = rng.random()
    ramp = np.linspace(0, 1, 256)[:, None]
    ramp = ramp ** math.exp(rng.normal(0, 0.3))
    contrast = rng.uniform(0.45, 1.25)
    ramp = 0.5 + contrast * (ramp - 0.5) + rng.normal(0, 0.08)
    if kind < 0.55:
        table = ramp * np.exp(rng.normal(0, 0.08, 3))
    else:
        image = image.convert("L").convert("RGB")
        table = np.repeat(ramp, 3, axis=1)
        if kind > 0.9:
            white, black = np.array(SEPIA) / 255
            table = black + table * (white - black)
    values = np.clip(np.round(table * 255), 0, 255).astype(int)
    return image.point(values.T.ravel().tolist())


def _enlarge_again(image: Image.Image, factor: float, rng: np.random.Generator) -> Image.Image:
    small = (max(8, round(image.width / factor)), max(8, round(image.height / factor)))
    down = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[int(rng.integers(3))]
    up = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[int(rng.integers(2))]
    return image.resize(small, down).resize(image.size, up)


def _scratch(image: Image.Image, rng: np.random.Generator) -> None:
    """Dust and scratches, in place: light or dark strokes and specks."""
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 12))):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        shade = (int(rng.integers(170, 256)),) * 3 if rng.random() < 0.7 else (int(rng.integers(0, 60)),) * 3
        if rng.random() < 0.5:
            turn, length = rng.uniform(0, math.pi), rng.uniform(8, image.width)
            draw.line((x, y, x + length * math.cos(turn), y + length * math.sin(turn)), fill=shade, width=1)
        else:
            radius = rng.uniform(0.5, 2)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)


def _grain(image: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Film grain: the same in every channel, in half of the cases two pixels wide."""
    coarse = 2 if rng.random() < 0.5 else 1
    noise: NDArray[np.float32] = rng.standard_normal(
        (math.ceil(image.height / coarse), math.ceil(image.width / coarse), 1), dtype=np.float32
    )
    noise = noise.repeat(coarse, axis=0).repeat(coarse, axis=1)[: image.height, : image.width]
    grainy = np.asarray(image, np.float32) + sigma * noise
    return Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8))


def _compress(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")
