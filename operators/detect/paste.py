"""Put restored faces back where they were cut out, so that no seam shows. Coordinates as in align.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from operators.detect.align import invert, resize_matrix, warp
from operators.detect.resample import resample

# The ellipse of a face in an FFHQ crop, in crop sides: from above the brows to below the chin and
# from ear to ear. It ends inside the crop, whose border is invented where the photo ends.
_CENTRE = np.array([0.5, 0.53])
_RADII = np.array([0.44, 0.45])

_MATCH_SIZE = 64  # means over the rim of a face are compared at this crop size
_BAND = 4_000_000  # photo pixels blended at a time; bounds the memory of a face that fills a huge photo


@dataclass(frozen=True)
class _Face:
    """A crop (S, S, 3) uint8 and where it belongs."""

    crop: NDArray[np.uint8]
    matrix: NDArray[np.float64]  # (2, 3), photo -> crop
    shift: NDArray[np.float32]  # (3,), added to the crop's colours
    box: tuple[int, int, int, int]  # x0, y0, x1, y1: the photo pixels its ellipse may touch

    def radius(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
        """(bottom - top, right - left): 0 at the centre of the ellipse, 1 on it, for those photo pixels."""
        linear = self.matrix[:, :2] / len(self.crop) / _RADII[:, None]
        offset = ((self.matrix[:, 2] + 0.5) / len(self.crop) - _CENTRE) / _RADII
        x = np.arange(left, right, dtype=np.float64)
        y = np.arange(top, bottom, dtype=np.float64)[:, None]
        u = (linear[0, 0] * x + offset[0]) + linear[0, 1] * y
        v = (linear[1, 0] * x + offset[1]) + linear[1, 1] * y
        return np.sqrt(u * u + v * v).astype(np.float32)

    def overlaps(self, left: int, top: int, right: int, bottom: int) -> bool:
        return self.box[0] < right and left < self.box[2] and self.box[1] < bottom and top < self.box[3]


def paste(
    photo: NDArray[np.uint8],
    crops: Sequence[tuple[NDArray[np.uint8], ArrayLike]],
    *,
    feather: float = 0.35,
    match_colour: bool = True,
) -> NDArray[np.uint8]:
    """`photo` (H, W, 3) uint8 with `crops` put back; the input is left as it is.

    crops: pairs of a crop (S, S, 3) uint8, any S, and its matrix (2, 3) photo -> crop at that size.
    feather: the share of the ellipse's radius over which the crop fades out (0 excluded, 1 at most).
    match_colour: add one constant per channel to a crop so that along its fading rim it has the
        mean colour of the photo there.

    A crop finer than the photo is antialiased. Where faces overlap, each counts by how deep inside
    its own ellipse the pixel lies, so the order does not matter (but for rounding). Pixels outside
    all ellipses are bit-identical to the input. Raises ValueError for a crop that is not square.
    """
    if not 0 < feather <= 1:
        raise ValueError(f"feather must lie in (0, 1], got {feather}")
    faces = [_place(photo, crop, matrix, feather, match_colour) for crop, matrix in crops]
    result = photo.copy()
    for face in faces:
        left, top, right, bottom = face.box
        if left >= right or top >= bottom:
            continue
        rows = max(1, _BAND // (right - left))
        for start in range(top, bottom, rows):
            stop = min(start + rows, bottom)
            others = [f for f in faces if f is not face and f.overlaps(left, start, right, stop)]
            _blend(result, photo, face, others, (left, start, right, stop), feather)
    return result


def face_mask(size: int, feather: float = 0.35) -> NDArray[np.float32]:
    """The weight (size, size) in [0, 1] with which a crop alone on its spot replaces the photo."""
    identity = np.eye(2, 3)
    face = _Face(np.empty((size, size, 3), np.uint8), identity, np.zeros(3, np.float32), (0, 0, size, size))
    return _fade(face.radius(0, 0, size, size), feather)


def _fade(radius: NDArray[np.float32], feather: float) -> NDArray[np.float32]:
    """1 inside, 0 from the ellipse outwards, and a smoothstep (3t^2 - 2t^3) over the feather between."""
    t = np.clip((1 - radius) / np.float32(feather), 0, 1)
    return t * t * (3 - 2 * t)


def _place(
    photo: NDArray[np.uint8], crop: NDArray[np.uint8], matrix: ArrayLike, feather: float, match_colour: bool
) -> _Face:
    size = len(crop)
    if crop.shape != (size, size, 3):
        raise ValueError(f"a crop to paste must be (S, S, 3), got {crop.shape}")
    m = np.asarray(matrix, dtype=np.float64)
    shift = _rim_shift(photo, crop, m, feather) if match_colour else np.zeros(3, np.float32)

    # The photo pixels within the ellipse: it reaches as far along an axis as the length of that row
    # of the matrix that takes the unit circle to the photo.
    to_photo = invert(m)
    centre = to_photo[:, :2] @ (_CENTRE * size - 0.5) + to_photo[:, 2]
    reach = np.linalg.norm(to_photo[:, :2] * (_RADII * size), axis=1)
    limits = np.array(photo.shape[1::-1])
    left, top = np.clip(np.floor(centre - reach), 0, limits).astype(int).tolist()
    right, bottom = np.clip(np.ceil(centre + reach) + 1, 0, limits).astype(int).tolist()
    return _Face(crop, m, shift, (left, top, right, bottom))


def _rim_shift(
    photo: NDArray[np.uint8], crop: NDArray[np.uint8], matrix: NDArray[np.float64], feather: float
) -> NDArray[np.float32]:
    """Per channel (3,), how much brighter the photo is than the crop where the two fade into each other."""
    small = Image.fromarray(crop).resize((_MATCH_SIZE, _MATCH_SIZE), Image.Resampling.BICUBIC)
    under = warp(photo, resize_matrix(matrix, len(crop), _MATCH_SIZE), _MATCH_SIZE)
    mask = face_mask(_MATCH_SIZE, feather)
    rim = mask * (1 - mask)
    difference = under.astype(np.float32) - np.asarray(small)
    return (np.einsum("yx,yxc->c", rim, difference) / rim.sum()).astype(np.float32)


def _blend(
    result: NDArray[np.uint8],
    photo: NDArray[np.uint8],
    face: _Face,
    others: Sequence[_Face],
    window: tuple[int, int, int, int],
    feather: float,
) -> None:
    """Add to `result` what `face` changes of `photo` within `window`."""
    left, top, right, bottom = window
    nearest = face.radius(*window)
    depth = np.square(np.clip(1 - nearest, 0, None))
    total = depth.copy()
    for other in others:
        radius = other.radius(*window)
        total += np.square(np.clip(1 - radius, 0, None))
        nearest = np.minimum(nearest, radius)
    weight = _fade(nearest, feather) * depth / np.maximum(total, np.finfo(np.float32).tiny)

    to_crop = face.matrix.copy()
    to_crop[:, 2] += face.matrix[:, :2] @ np.array([left, top], dtype=np.float64)
    drawn = resample(face.crop, to_crop, right - left, bottom - top) + face.shift
    here = np.s_[top:bottom, left:right]
    change = (np.clip(drawn, 0, 255) - photo[here]) * weight[..., None]
    result[here] = np.clip(result[here] + change + 0.5, 0, 255).astype(np.uint8)
