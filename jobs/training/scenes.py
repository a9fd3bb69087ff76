"""Training images for the face detector, composed on the fly from labelled portraits.

A scene is a canvas with a background that holds no face and a few or many portraits on it, whole or cut out
around head and shoulders, at any size and one in front of the other, as in a group photograph. The labels
follow every paste: a face that a later one hides is taken back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from jobs.training.faces import LabelledPhoto
from operators.detect.targets import Labels

FLIPPED = (1, 0, 2, 4, 3)
"""Landmark order after a mirror: the viewer's left and right change places."""

STORED_SIZE = 128.0
"""Faces are kept at this size, sqrt(width * height) in pixels, when the photo's are larger."""

VISIBLE, HIDDEN = 0.65, 0.25
"""Share of a face's box that must show to be asked for, and below which it is background."""


@dataclass(frozen=True)
class Portrait:
    """A photo with one labelled face, as a pyramid of halved copies so that a shrunken paste is cheap.

    levels: RGB images; a pixel of each is exactly two by two of the one before, so an odd side reaches further.
    box: (4,) and landmarks: (5, 2) float64 of the first level, edges at integers (Pillow's frame).
    """

    levels: tuple[Image.Image, ...]
    box: NDArray[np.float64]
    landmarks: NDArray[np.float64]

    @property
    def size(self) -> float:
        """sqrt(width * height) of the face's box in the first level."""
        return math.sqrt((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


def shown(photo: LabelledPhoto) -> float:
    """Share of a labelled face's box that lies within the photo; 0 without a label."""
    if photo.box is None:
        return 0.0
    x0, y0, x1, y1 = photo.box
    height, width = photo.pixels.shape[:2]
    across, down = min(x1, width) - max(x0, 0.0), min(y1, height) - max(y0, 0.0)
    return max(0.0, across) * max(0.0, down) / max(1e-6, (x1 - x0) * (y1 - y0))


def prepare(photos: Iterable[LabelledPhoto]) -> list[Portrait]:
    """Portraits of the labelled photos; the unlabelled ones are left out, they may hold faces.

    Raises ValueError when none is labelled.
    """
    portraits = []
    for photo in photos:
        if photo.landmarks is None or photo.box is None:
            continue
        box = np.asarray(photo.box, np.float64) + 0.5
        landmarks = photo.landmarks.astype(np.float64) + 0.5
        image = Image.fromarray(photo.pixels)
        factor = min(1.0, STORED_SIZE / math.sqrt((box[2] - box[0]) * (box[3] - box[1])))
        stored = image.resize(
            (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.LANCZOS
        )
        exact = np.array([stored.width / image.width, stored.height / image.height])
        levels = [stored]
        while min(levels[-1].size) >= 32:
            levels.append(levels[-1].reduce(2))
        portraits.append(Portrait(tuple(levels), box * np.tile(exact, 2), landmarks * exact))
    if not portraits:
        raise ValueError("no sample has a JSON with landmarks5 and box; training the detector needs both")
    return portraits


@dataclass(frozen=True)
class Placement:
    """Where a portrait goes: the face's size and middle on the canvas, its turn in radians, mirrored or not,
    whole or cut out around head and shoulders."""

    portrait: Portrait
    size: float
    middle: tuple[float, float]
    angle: float
    mirror: bool
    cut_out: bool


class Canvas:
    """A square image that portraits are pasted on and that knows which face is in front where."""

    def __init__(self, background: Image.Image) -> None:
        self.image = background
        self.side = background.width
        self.front = np.full((self.side, self.side), -1, np.int16)
        self.boxes: list[NDArray[np.float64]] = []
        self.landmarks: list[NDArray[np.float64]] = []

    def paste(self, placement: Placement, rng: np.random.Generator) -> None:
        """Paste one portrait in front of everything so far and note its face."""
        portrait = placement.portrait
        scale = placement.size / portrait.size
        cos, sin = scale * math.cos(placement.angle), scale * math.sin(placement.angle)
        matrix = np.array([[cos, -sin], [sin, cos]])
        if placement.mirror:
            matrix = matrix @ np.diag([-1.0, 1.0])
        origin = (portrait.box[:2] + portrait.box[2:]) / 2
        shift = np.asarray(placement.middle) - matrix @ origin

        width, height = portrait.levels[0].size
        outline = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) @ matrix.T + shift
        box = _upright(portrait.box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) @ matrix.T + shift)
        person = _Person.around(box, rng) if placement.cut_out else None
        reach = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
        if person is not None:
            reach = np.concatenate([np.maximum(reach[:2], person.box[:2]), np.minimum(reach[2:], person.box[2:])])
        x0, y0 = np.clip(np.floor(reach[:2]), 0, self.side).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(reach[2:]), 0, self.side).astype(int).tolist()
        if x1 <= x0 or y1 <= y0:
            return
        stencil = Image.new("L", (x1 - x0, y1 - y0), 0)
        ImageDraw.Draw(stencil).polygon([(x - x0, y - y0) for x, y in outline.tolist()], fill=255)
        if person is not None:
            stencil = ImageChops.darker(stencil, person.stencil(x0, y0, x1, y1))
        level = min(len(portrait.levels) - 1, max(0, math.floor(math.log2(1 / scale) + 0.3)))
        source = portrait.levels[level]
        # Pillow wants the inverse: a point of the pasted region to a point of the level it reads.
        inverse = np.linalg.inv(matrix)
        start = inverse @ (np.array([x0, y0]) - shift)
        rows = np.column_stack([inverse, start]) / 2**level
        warped = source.transform(
            (x1 - x0, y1 - y0), Image.Transform.AFFINE, tuple(rows.ravel()), Image.Resampling.BILINEAR
        )
        self.image.paste(warped, (x0, y0), stencil)
        self.front[y0:y1, x0:x1][np.asarray(stencil) > 127] = len(self.boxes)
        self.boxes.append(box)
        points = portrait.landmarks @ matrix.T + shift
        self.landmarks.append(points[list(FLIPPED)] if placement.mirror else points)

    def labels(self) -> Labels:
        """The faces that still show, pixel centres at integers."""
        kept, sure = [], []
        for face, box in enumerate(self.boxes):
            x0, y0, x1, y1 = np.clip(np.round(box), 0, self.side).astype(int)
            area = max(1.0, float((box[2] - box[0]) * (box[3] - box[1])))
            share = np.count_nonzero(self.front[y0:y1, x0:x1] == face) / area
            if share >= HIDDEN:
                kept.append(face)
                sure.append(share >= VISIBLE)
        boxes = np.array([self.boxes[face] for face in kept], np.float32).reshape(-1, 4) - 0.5
        points = np.array([self.landmarks[face] for face in kept], np.float32).reshape(-1, 5, 2) - 0.5
        return Labels(boxes, points, np.array(sure, bool))


def _upright(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upright box around the middle of a turned one; its sides grow less than the hull's, as a face is round."""
    hull = corners.max(axis=0) - corners.min(axis=0)
    turned = np.array([np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[3] - corners[0])])
    sides = (hull + turned) / 2
    middle = corners.mean(axis=0)
    return np.concatenate([middle - sides / 2, middle + sides / 2])


@dataclass(frozen=True)
class _Person:
    """The silhouette of a head and shoulders.

    box: what it covers (x0, y0, x1, y1); head: its ellipse; shoulders: the ellipse they start with; softness of
    the edge in pixels.
    """

    box: NDArray[np.float64]
    head: tuple[float, float, float, float]
    shoulders: tuple[float, float, float, float]
    softness: int

    @classmethod
    def around(cls, box: NDArray[np.float64], rng: np.random.Generator) -> _Person:
        """A silhouette of random build around a face box."""
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        width, height = box[2] - box[0], box[3] - box[1]
        across, up = width * rng.uniform(0.6, 0.95), height * rng.uniform(0.6, 0.9)
        half = width * rng.uniform(1.1, 1.8)
        neck = box[3] + height * rng.uniform(0.0, 0.3)
        top = y - height * 0.08
        head = (x - across, top - up, x + across, top + up)
        shoulders = (x - half, neck, x + half, neck + 1.6 * height)
        whole = np.array([min(head[0], x - half), head[1], max(head[2], x + half), neck + 4 * height])
        return cls(whole, head, shoulders, softness=1 if width > 16 else 0)

    def stencil(self, x0: int, y0: int, x1: int, y1: int) -> Image.Image:
        """Its mask, mode L, in the window (x0, y0, x1, y1) of the canvas."""
        mask = Image.new("L", (x1 - x0, y1 - y0), 0)
        draw = ImageDraw.Draw(mask)
        shift = np.array([x0, y0, x0, y0], float)
        draw.ellipse(tuple((np.array(self.head) - shift).tolist()), fill=255)
        shoulders = (np.array(self.shoulders) - shift).tolist()
        draw.ellipse(tuple(shoulders), fill=255)
        middle = (shoulders[1] + shoulders[3]) / 2
        draw.rectangle((shoulders[0], middle, shoulders[2], self.box[3] - y0), fill=255)
        return mask.filter(ImageFilter.BoxBlur(self.softness)) if self.softness else mask


def background(portraits: Sequence[Portrait], side: int, rng: np.random.Generator) -> Image.Image:
    """A canvas without a face: what lies beside or below a portrait's face, stretched; or a gradient with noise."""
    if rng.random() < 0.15:
        corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        smooth = Image.fromarray(corners).resize((side, side), Image.Resampling.BILINEAR)
        speckle = rng.normal(0, rng.uniform(1, 40), (side // 4, side // 4, 3))
        coarse = Image.fromarray(np.clip(128 + speckle, 0, 255).astype(np.uint8)).resize((side, side))
        return Image.blend(smooth, coarse, rng.uniform(0, 0.5))
    tiles = (1, 1, 2, 3)[int(rng.integers(4))]
    part = math.ceil(side / tiles)
    canvas = Image.new("RGB", (side, side))
    for tile in range(tiles * tiles):
        portrait = portraits[int(rng.integers(len(portraits)))]
        region = faceless_region(portrait, rng)
        piece = portrait.levels[0].resize((part, part), Image.Resampling.BILINEAR, box=region)
        turn = int(rng.integers(5))
        piece = piece if turn == 4 else piece.transpose(Image.Transpose(turn))
        canvas.paste(piece, (tile % tiles * part, tile // tiles * part))
    return canvas


def faceless_region(portrait: Portrait, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A rectangle of the portrait's first level beside, above or below the head; a random part of the larger ones."""
    width, height = portrait.levels[0].size
    x0, y0, x1, y1 = portrait.box
    margin_x, margin_y = 0.5 * (x1 - x0), 0.4 * (y1 - y0)
    sides = [
        (0.0, 0.0, x0 - margin_x, float(height)),
        (x1 + margin_x, 0.0, float(width), float(height)),
        (0.0, 0.0, float(width), y0 - margin_y),
        (0.0, y1 + 0.5 * margin_y, float(width), float(height)),
    ]
    roomy = [side for side in sides if side[2] - side[0] >= 24 and side[3] - side[1] >= 24]
    if not roomy:
        return (0.0, 0.0, 4.0, 4.0)
    a, b, c, d = roomy[int(rng.integers(len(roomy)))]
    share_x, share_y = rng.uniform(0.5, 1.0, 2)
    left = a + rng.uniform(0, 1 - share_x) * (c - a)
    top = b + rng.uniform(0, 1 - share_y) * (d - b)
    return (left, top, left + share_x * (c - a), top + share_y * (d - b))


def compose(portraits: Sequence[Portrait], side: int, rng: np.random.Generator) -> tuple[Image.Image, Labels]:
    """One scene of `side` x `side` pixels: a portrait, a mosaic of portraits, a group, or nobody."""
    canvas = Canvas(background(portraits, side, rng))
    kind = rng.random()
    if kind < 0.3:
        placements = _single(portraits, side, rng)
    elif kind < 0.6:
        placements = _rows(portraits, side, rng, cut_out=False)
    elif kind < 0.95:
        placements = _rows(portraits, side, rng, cut_out=True)
    else:
        placements = []
    for placement in placements:
        canvas.paste(placement, rng)
    return canvas.image, canvas.labels()


def _place(
    portraits: Sequence[Portrait], size: float, x: float, y: float, rng: np.random.Generator, cut_out: bool
) -> Placement:
    return Placement(
        portrait=portraits[int(rng.integers(len(portraits)))],
        size=size,
        middle=(x, y),
        angle=float(rng.normal(0, 0.12)),
        mirror=bool(rng.random() < 0.5),
        cut_out=cut_out,
    )


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _single(portraits: Sequence[Portrait], side: int, rng: np.random.Generator) -> list[Placement]:
    size = _log_uniform(36, 0.8 * side, rng)
    x, y = rng.uniform(0.2, 0.8, 2) * side
    return [_place(portraits, size, float(x), float(y), rng, cut_out=False)]


def _rows(
    portraits: Sequence[Portrait], side: int, rng: np.random.Generator, *, cut_out: bool, most: int = 20
) -> list[Placement]:
    """People in rows, the upper rows behind the lower ones; at most `most`, from a random corner on."""
    size = _log_uniform(10, 90, rng)
    step_x, step_y = size * rng.uniform(1.3, 2.6), size * rng.uniform(1.4, 2.8)
    start_x, start_y = rng.uniform(-0.3, 0.7) * step_x, rng.uniform(0.2, 0.9) * step_y
    across, down = math.ceil((side - start_x) / step_x), math.ceil((side - start_y) / step_y)
    across = min(across, most)
    down = min(down, max(1, most // max(1, across)))
    start_x += rng.uniform(0, max(1e-6, side - start_x - across * step_x))
    start_y += rng.uniform(0, max(1e-6, side - start_y - down * step_y))
    placements = []
    for row in range(down):
        lean = rng.uniform(-0.5, 0.5) * step_x
        for column in range(across):
            if rng.random() < 0.12:
                continue
            x = start_x + column * step_x + lean + rng.normal(0, 0.12) * step_x
            y = start_y + row * step_y + rng.normal(0, 0.12) * step_y
            placements.append(
                _place(portraits, size * float(np.exp(rng.normal(0, 0.15))), float(x), float(y), rng, cut_out)
            )
    return placements
