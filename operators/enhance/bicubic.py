"""The enhancer that does not enhance: plain bicubic enlargement, under its own name."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from operators.enhance.contract import Described, EnhancerDescriptor

_DEFINITION = "Pillow Image.resize BICUBIC (Keys, a = -0.5)"


class BicubicEnhancer(Described):
    """Enlarges and adds nothing: what "none" means, and the baseline the others are measured against."""

    def __init__(self, input_size: int = 128, output_size: int = 256) -> None:
        super().__init__(
            EnhancerDescriptor(
                name="bicubic",
                licence="Apache-2.0",
                input_size=input_size,
                output_size=output_size,
                value_range=(0.0, 255.0),
                precisions=("float32",),
                fingerprint=hashlib.sha256(f"{_DEFINITION} {input_size} {output_size}".encode()).hexdigest(),
            )
        )

    def enhance(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See :class:`operators.enhance.contract.Enhancer`."""
        self.check(faces)
        side = self.output_size
        enlarged = np.empty((len(faces), side, side, 3), np.uint8)
        for face, target in zip(faces, enlarged, strict=True):
            target[:] = np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC))
        return enlarged
