"""Put restored faces back where they were cut out, so that no seam shows. Coordinates as in align.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from operators.detect.align import invert, resize_matrix, warp
from operators.detect.resample import resample, resample_plane

_MATCH_SIZE = 64  # means over the rim of a face are compared at this crop size
_TINY = np.finfo(np.float32).tiny
_BAND = 4_000_000  # photo pixels blended at a time; bounds the memory of a face that fills a huge photo


@dataclass(frozen=True)
class _Outline:
    """How far a crop may reach: |u|^power + |v|^power = 1 with u, v from the centre in radii, in crop sides.

    feather: the share of the radius over which the crop fades out.
    """

    centre: NDArray[np.float64]
    radii: NDArray[np.float64]
    power: int
    feather: float

    def radius(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float32]:
        """0 at the centre, 1 on the outline."""
        if self.power == 2:
            return np.sqrt(u * u + v * v).astype(np.float32)
        return ((np.abs(u) ** self.power + np.abs(v) ** self.power) ** (1 / self.power)).astype(np.float32)


def _ellipse(feather: float) -> _Outline:
    """The face in an FFHQ crop: from above the brows to below the chin and from ear to ear. It ends inside the crop,
    whose border is invented where the photo ends."""
    return _Outline(np.array([0.5, 0.53]), np.array([0.44, 0.45]), 2, feather)


_BORDER = _Outline(np.array([0.5, 0.5]), np.array([0.5, 0.5]), 8, 0.15)
"""Nearly all of the crop, for a face whose mask says what of it counts: its hair reaches further than the ellipse."""


@dataclass(frozen=True)
class _Face:
    """A crop (S, S, 3) uint8 and where it belongs."""

    crop: NDArray[np.uint8]
    matrix: NDArray[np.float64]  # (2, 3), photo -> crop
    shift: NDArray[np.float32]  # (3,), added to the crop's colours
    box: tuple[int, int, int, int]  # x0, y0, x1, y1: the photo pixels its outline may touch
    outline: _Outline
    mask: NDArray[np.float32] | None  # (M, M) in [0, 1]: how much of the crop counts, inside the outline

    def radius(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
        """(bottom - top, right - left): 0 at the centre of the outline, 1 on it, for those photo pixels."""
        centre, radii = self.outline.centre, self.outline.radii
        linear = self.matrix[:, :2] / len(self.crop) / radii[:, None]
        offset = ((self.matrix[:, 2] + 0.5) / len(self.crop) - centre) / radii
        x = np.arange(left, right, dtype=np.float64)
        y = np.arange(top, bottom, dtype=np.float64)[:, None]
        u = (linear[0, 0] * x + offset[0]) + linear[0, 1] * y
        v = (linear[1, 0] * x + offset[1]) + linear[1, 1] * y
        return self.outline.radius(u, v)

    def counts(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.float32] | float:
        """The mask at those photo pixels, (bottom - top, right - left) in [0, 1]; 1 without one."""
        if self.mask is None:
            return 1.0
        to_mask = _shifted(resize_matrix(self.matrix, len(self.crop), len(self.mask)), left, top)
        return np.clip(resample_plane(self.mask, to_mask, right - left, bottom - top), 0, 1)

    def overlaps(self, left: int, top: int, right: int, bottom: int) -> bool:
        return self.box[0] < right and left < self.box[2] and self.box[1] < bottom and top < self.box[3]


def paste(
    photo: NDArray[np.uint8],
    crops: Sequence[tuple[NDArray[np.uint8], ArrayLike]],
    *,
    masks: Sequence[NDArray[np.float32] | None] | None = None,
    feather: float = 0.35,
    match_colour: bool = True,
) -> NDArray[np.uint8]:
    """`photo` (H, W, 3) uint8 with `crops` put back; the input is left as it is.

    crops: pairs of a crop (S, S, 3) uint8, any S, and its matrix (2, 3) photo -> crop at that size.
    masks: of each crop, what of it is the person's: (M, M) float32 in [0, 1], any M, soft at its edges. Such a crop
        fades out at its border alone; one without a mask counts within the ellipse of a face.
    feather: the share of the ellipse's radius over which the crop fades out (0 excluded, 1 at most).
    match_colour: add one constant per channel to a crop so that along its fading rim it has the
        mean colour of the photo there.

    A crop finer than the photo is antialiased. Where faces overlap, each counts by how deep inside
    its own outline the pixel lies, so the order does not matter (but for rounding). Pixels outside
    all outlines and masks are bit-identical to the input. Raises ValueError for a crop or a mask that is not square.
    """
    if not 0 < feather <= 1:
        raise ValueError(f"feather must lie in (0, 1], got {feather}")
    of_crops = masks or [None] * len(crops)
    faces = [
        _place(photo, crop, matrix, mask, _ellipse(feather) if mask is None else _BORDER, match_colour)
        for (crop, matrix), mask in zip(crops, of_crops, strict=True)
    ]
    result = photo.copy()
    for face in faces:
        left, top, right, bottom = face.box
        if left >= right or top >= bottom:
            continue
        rows = max(1, _BAND // (right - left))
        for start in range(top, bottom, rows):
            stop = min(start + rows, bottom)
            others = [f for f in faces if f is not face and f.overlaps(left, start, right, stop)]
            _blend(result, photo, face, others, (left, start, right, stop))
    return result


def face_mask(size: int, feather: float = 0.35) -> NDArray[np.float32]:
    """The weight (size, size) in [0, 1] with which a crop alone on its spot replaces the photo."""
    return _alone(size, _ellipse(feather), None)


def _alone(size: int, outline: _Outline, mask: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The weight (size, size) of a crop of that size that no other overlaps."""
    window = (0, 0, size, size)
    crop, shift = np.empty((size, size, 3), np.uint8), np.zeros(3, np.float32)
    face = _Face(crop, np.eye(2, 3), shift, window, outline, mask)
    return _fade(face.radius(*window), outline.feather) * face.counts(*window)


def _fade(radius: NDArray[np.float32], feather: float) -> NDArray[np.float32]:
    """1 inside, 0 from the outline outwards, and a smoothstep (3t^2 - 2t^3) over the feather between."""
    t = np.clip((1 - radius) / np.float32(feather), 0, 1)
    return t * t * (3 - 2 * t)


def _place(
    photo: NDArray[np.uint8],
    crop: NDArray[np.uint8],
    matrix: ArrayLike,
    mask: NDArray[np.float32] | None,
    outline: _Outline,
    match_colour: bool,
) -> _Face:
    size = len(crop)
    if crop.shape != (size, size, 3):
        raise ValueError(f"a crop to paste must be (S, S, 3), got {crop.shape}")
    if mask is not None and mask.shape != (len(mask), len(mask)):
        raise ValueError(f"the mask of a crop must be (M, M), got {mask.shape}")
    m = np.asarray(matrix, dtype=np.float64)
    shift = _rim_shift(photo, crop, m, mask, outline) if match_colour else np.zeros(3, np.float32)

    # The photo pixels within the outline. An ellipse reaches as far along an axis as the length of that row of the
    # matrix that takes the unit circle to the photo; a square, as the sum of its entries.
    to_photo = invert(m)
    centre = to_photo[:, :2] @ (outline.centre * size - 0.5) + to_photo[:, 2]
    reach = np.linalg.norm(to_photo[:, :2] * (outline.radii * size), ord=2 if outline.power == 2 else 1, axis=1)
    limits = np.array(photo.shape[1::-1])
    left, top = np.clip(np.floor(centre - reach), 0, limits).astype(int).tolist()
    right, bottom = np.clip(np.ceil(centre + reach) + 1, 0, limits).astype(int).tolist()
    return _Face(crop, m, shift, (left, top, right, bottom), outline, mask)


def _rim_shift(
    photo: NDArray[np.uint8],
    crop: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    mask: NDArray[np.float32] | None,
    outline: _Outline,
) -> NDArray[np.float32]:
    """Per channel (3,), how much brighter the photo is than the crop where the two fade into each other."""
    small = Image.fromarray(crop).resize((_MATCH_SIZE, _MATCH_SIZE), Image.Resampling.BICUBIC)
    under = warp(photo, resize_matrix(matrix, len(crop), _MATCH_SIZE), _MATCH_SIZE)
    weight = _alone(_MATCH_SIZE, outline, mask)
    rim = weight * (1 - weight)
    difference = under.astype(np.float32) - np.asarray(small)
    return (np.einsum("yx,yxc->c", rim, difference) / max(float(rim.sum()), _TINY)).astype(np.float32)


def _blend(
    result: NDArray[np.uint8],
    photo: NDArray[np.uint8],
    face: _Face,
    others: Sequence[_Face],
    window: tuple[int, int, int, int],
) -> None:
    """Add to `result` what `face` changes of `photo` within `window`."""
    left, top, right, bottom = window
    nearest = face.radius(*window)
    counts = face.counts(*window)
    depth = np.square(np.clip(1 - nearest, 0, None)) * counts
    total = depth.copy()
    for other in others:
        radius = other.radius(*window)
        total += np.square(np.clip(1 - radius, 0, None)) * other.counts(*window)
        if face.mask is None and other.mask is None:  # where ellipses overlap, they fade as one shape
            nearest = np.minimum(nearest, radius)
    weight = _fade(nearest, face.outline.feather) * counts * depth / np.maximum(total, _TINY)

    drawn = resample(face.crop, _shifted(face.matrix, left, top), right - left, bottom - top) + face.shift
    here = np.s_[top:bottom, left:right]
    change = (np.clip(drawn, 0, 255) - photo[here]) * weight[..., None]
    result[here] = np.clip(result[here] + change + 0.5, 0, 255).astype(np.uint8)


def _shifted(matrix: NDArray[np.float64], left: int, top: int) -> NDArray[np.float64]:
    """The photo -> crop matrix for a photo whose first pixel is at (left, top) of it."""
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ np.array([left, top], dtype=np.float64)
    return shifted
