"""A face's mask as it travels from process to process: a small PNG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_png(mask: NDArray[np.uint8]) -> bytes:
    """The PNG of a mask (M, M) uint8."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, format="PNG")
    return out.getvalue()


def from_png(data: bytes) -> NDArray[np.float32]:
    """The inverse of `to_png`, as `operators.detect.paste.paste` takes it: (M, M) float32 in [0, 1]."""
    return np.asarray(Image.open(io.BytesIO(data), formats=["PNG"])).astype(np.float32) / np.float32(255)
