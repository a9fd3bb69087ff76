"""What an upscaler is: it makes a whole photograph larger, by a factor that is settled when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Upscaler(Protocol):
    """Makes photographs larger. Build one with :func:`operators.upscale.registry.load`.

    name: as it stands in manifests. licence: of its weights. fingerprint: SHA-256 (hex) of its weights, "" for none.
    scale: sides of the result over sides of the photograph.
    """

    name: str
    licence: str
    fingerprint: str
    scale: int

    def enlarge(self, photo: NDArray[np.uint8], progress: Callable[[], None] = ...) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB -> (scale H, scale W, 3) uint8 RGB; grey stays grey.

        progress: called whenever a part of the work is done. Raises ArithmeticError for a result without numbers.
        """
        ...


def unwatched() -> None:
    """The progress that nobody watches."""
