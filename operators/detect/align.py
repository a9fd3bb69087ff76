"""Cut a face out of a photo so that its eyes, nose and mouth fall on the FFHQ template.

Coordinates: (x, y) in pixels, the centre of the top-left pixel is (0, 0), as detectors and
OpenCV have it. A matrix is (2, 3) and maps a point of the photo to a point of the crop:
crop = matrix[:, :2] @ photo + matrix[:, 2].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from operators.detect.resample import MARGIN, resample

# Left eye, right eye (as seen in the image), nose tip, left and right corner of the mouth of the
# average FFHQ face in a crop of 512 x 512, the layout that face restoration networks are trained on.
FFHQ_512: NDArray[np.float64] = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
FFHQ_512.setflags(write=False)

# A crop may reach this many photo sides beyond the photo. Further out there are only repeated
# reflections, and a wild landmark would otherwise ask for gigabytes of them.
_MAX_REACH = 8.0


class AlignError(ValueError):
    """Landmarks from which no crop can be cut. `code` is stable, `message` is for people."""

    def __init__(self, message: str, code: str = "face.degenerate") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def template(size: int) -> NDArray[np.float64]:
    """The five FFHQ landmarks (5, 2) in a crop of `size` x `size` pixels.

    A crop resized to another size keeps its landmarks on the template of that size (pixel centres
    are scaled about the corner of the image, not about the centre of the first pixel).
    """
    return (FFHQ_512 + 0.5) * (size / 512) - 0.5


def resize_matrix(matrix: ArrayLike, size: int, new_size: int) -> NDArray[np.float64]:
    """The photo -> crop matrix (2, 3) after the crop was resized from `size` to `new_size` pixels."""
    factor = new_size / size
    resized = np.asarray(matrix, dtype=np.float64) * factor
    resized[:, 2] += 0.5 * factor - 0.5
    return resized


def enlarge_photo(matrix: ArrayLike, scale: int) -> NDArray[np.float64]:
    """The photo -> crop matrix (2, 3) after the photo was made `scale` times larger."""
    enlarged = np.asarray(matrix, dtype=np.float64) / [[scale, scale, 1]]
    enlarged[:, 2] += enlarged[:, :2].sum(axis=1) * (0.5 - 0.5 * scale)
    return enlarged


def invert(matrix: ArrayLike) -> NDArray[np.float64]:
    """The (2, 3) matrix of the way back: crop -> photo for photo -> crop."""
    m = np.asarray(matrix, dtype=np.float64)
    back = np.linalg.inv(m[:, :2])
    return np.column_stack([back, -back @ m[:, 2]])


def similarity(src: ArrayLike, dst: ArrayLike) -> NDArray[np.float64]:
    """The similarity (2, 3) float64 taking points `src` (K, 2) closest to `dst` (K, 2).

    Rotation, uniform scale and translation, never a reflection; minimises the sum of squared
    distances (Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", 1991). With points as complex numbers the rotation and scale are one complex factor,
    <s, d> / <s, s>, over the centred points, so no singular value decomposition is needed in 2-D.

    Raises AlignError when the points are not finite or all coincide.
    """
    s = np.asarray(src, dtype=np.float64)
    d = np.asarray(dst, dtype=np.float64)
    if s.shape != d.shape or s.ndim != 2 or s.shape[1] != 2:
        raise ValueError(f"similarity needs two (K, 2) arrays, got {s.shape} and {d.shape}")
    if not (np.isfinite(s).all() and np.isfinite(d).all()):
        raise AlignError("the landmarks are not finite numbers")
    s_mean, d_mean = s.mean(axis=0), d.mean(axis=0)
    sx, sy = (s - s_mean).T
    dx, dy = (d - d_mean).T
    spread = float(sx @ sx + sy @ sy)
    a = float(sx @ dx + sy @ dy)
    b = float(sx @ dy - sy @ dx)
    if spread < 1e-12 or math.hypot(a, b) < 1e-12 * spread:
        raise AlignError("the landmarks coincide, so they give no size and no direction")
    linear = np.array([[a, -b], [b, a]]) / spread
    return np.column_stack([linear, d_mean - linear @ s_mean])


def align(photo: NDArray[np.uint8], landmarks: ArrayLike, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut the face with `landmarks` (5, 2) out of `photo` (H, W, 3) uint8.

    Returns the crop (size, size, 3) uint8 and the matrix (2, 3) float64 photo -> crop. Bicubic,
    antialiased when the crop is smaller than the face, mirrored beyond the photo's borders.
    Raises AlignError for landmarks that coincide, are not finite, or lie far outside the photo.
    """
    matrix = similarity(landmarks, template(size))
    return warp(photo, matrix, size), matrix


def warp(photo: NDArray[np.uint8], matrix: ArrayLike, size: int) -> NDArray[np.uint8]:
    """The crop (size, size, 3) uint8 that `matrix` (2, 3) photo -> crop cuts out of `photo` (H, W, 3)."""
    to_photo = invert(matrix)
    step = math.sqrt(abs(float(np.linalg.det(to_photo[:, :2]))))  # photo pixels per crop pixel
    corners = np.array([[x, y] for x in (-0.5, size - 0.5) for y in (-0.5, size - 0.5)])
    reached = corners @ to_photo[:, :2].T + to_photo[:, 2]
    height, width = photo.shape[:2]
    reach = _MAX_REACH * max(height, width, 16)
    if not np.isfinite(reached).all() or np.abs(reached).max() > reach:
        raise AlignError(f"the landmarks ask for a crop far outside the {width} x {height} photo")

    margin = MARGIN * max(1, math.ceil(step))
    left, top = (int(v) for v in np.floor(reached.min(axis=0)) - margin)
    right, bottom = (int(v) for v in np.ceil(reached.max(axis=0)) + margin + 1)
    region = _mirrored(photo, left, top, right, bottom)
    drawn = resample(region, to_photo - np.array([[0, 0, left], [0, 0, top]]), size, size)
    return np.clip(drawn + 0.5, 0, 255).astype(np.uint8)


def _mirrored(photo: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    """photo[top:bottom, left:right], mirrored where that lies outside (the border is not repeated)."""
    height, width = photo.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return np.ascontiguousarray(photo[top:bottom, left:right])
    return photo[_mirror(top, bottom, height)[:, None], _mirror(left, right, width)[None, :]]


def _mirror(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Indices into an axis of `length` for positions start..stop - 1: ... 2 1 0 1 2 ... n-1 n-2 ..."""
    if length == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (length - 1)
    position = np.arange(start, stop) % period
    return np.minimum(position, period - position)
