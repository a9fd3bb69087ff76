"""What an enhancer is: what it promises the pipeline, and how it describes itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EnhancerDescriptor:
    """The facts about an enhancer that a run records and a caller may rely on.

    Attributes:
        name: the enhancer's honest name, as it stands in manifests and reports.
        licence: SPDX identifier of the licence of its weights (of its code when it has no weights).
        input_size: side in pixels of the square faces it takes.
        output_size: side in pixels of the square faces it returns.
        value_range: range of the numbers its network sees; `enhance` itself speaks uint8.
        precisions: floating-point formats its network may compute in ("float32", "bfloat16").
        fingerprint: SHA-256 (hex) of its weights; for an enhancer without weights, of its definition.
    """

    name: str
    licence: str
    input_size: int
    output_size: int
    value_range: tuple[float, float]
    precisions: tuple[str, ...]
    fingerprint: str


class Enhancer(Protocol):
    """Any blind face enhancer. Build one with :func:`operators.enhance.registry.load`.

    A face's result depends on that face alone: not on its neighbours in the batch, their number, or their
    order. Grey input may come back with a trace of colour; who needs grey to stay grey says so with
    `operators.images.to_grey`.
    """

    @property
    def descriptor(self) -> EnhancerDescriptor:
        """Name, licence, sizes, value range, precisions and fingerprint."""

    @property
    def name(self) -> str:
        """`descriptor.name`."""

    @property
    def licence(self) -> str:
        """`descriptor.licence`."""

    @property
    def fingerprint(self) -> str:
        """`descriptor.fingerprint`."""

    @property
    def input_size(self) -> int:
        """`descriptor.input_size`."""

    @property
    def output_size(self) -> int:
        """`descriptor.output_size`."""

    def enhance(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(B, input_size, input_size, 3) uint8 RGB -> (B, output_size, output_size, 3) uint8 RGB; B may be 0.

        Raises ValueError for another shape or dtype.
        """


class Described:
    """Base of the enhancers here: answers the protocol's short names from the descriptor, checks input."""

    def __init__(self, descriptor: EnhancerDescriptor) -> None:
        self.descriptor = descriptor

    @property
    def name(self) -> str:
        return self.descriptor.name

    @property
    def licence(self) -> str:
        return self.descriptor.licence

    @property
    def fingerprint(self) -> str:
        return self.descriptor.fingerprint

    @property
    def input_size(self) -> int:
        return self.descriptor.input_size

    @property
    def output_size(self) -> int:
        return self.descriptor.output_size

    def check(self, faces: NDArray[np.uint8]) -> None:
        """Raises ValueError unless `faces` is (B, input_size, input_size, 3) uint8."""
        side = self.input_size
        if faces.ndim != 4 or faces.shape[1:] != (side, side, 3) or faces.dtype != np.uint8:
            raise ValueError(f"{self.name} takes (B, {side}, {side}, 3) uint8 faces, got {faces.shape} {faces.dtype}")
