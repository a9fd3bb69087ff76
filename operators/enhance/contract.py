"""What an enhancer is: what it promises the pipeline, and how it describes itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fidelity:
    """A knob of an enhancer: at `high` it keeps most of the face it is given, at `low` it makes most up.

    default: as published.
    """

    low: float
    high: float
    default: float


@dataclass(frozen=True)
class Identity:
    """What is known of a weights file beside its tensors. fingerprint: SHA-256 (hex) of its bytes."""

    name: str
    licence: str
    fingerprint: str


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
        architecture: the published name of its network, such as "CodeFormer".
        memory: bytes that one more face of a batch takes while it is enhanced in float32, weights left out; 0 where
            nobody measured.
        fidelity: the knob between the person and the look, where it has one.
    """

    name: str
    licence: str
    input_size: int
    output_size: int
    value_range: tuple[float, float]
    precisions: tuple[str, ...]
    fingerprint: str
    architecture: str = ""
    memory: int = 0
    fidelity: Fidelity | None = None

    @classmethod
    def keeping_size(
        cls,
        identity: Identity,
        architecture: str,
        size: int,
        *,
        value_range: tuple[float, float] = (-1.0, 1.0),
        precisions: tuple[str, ...] = ("float32",),
        memory: int = 0,
        fidelity: Fidelity | None = None,
    ) -> EnhancerDescriptor:
        """Of a published network that returns faces of the size it takes, as most do."""
        return cls(
            name=identity.name,
            licence=identity.licence,
            input_size=size,
            output_size=size,
            value_range=value_range,
            precisions=precisions,
            fingerprint=identity.fingerprint,
            architecture=architecture,
            memory=memory,
            fidelity=fidelity,
        )


class OptionError(ValueError):
    """An enhancer was asked for a fidelity or a precision it does not have; the message says what it has."""


@dataclass(frozen=True)
class Options:
    """How an enhancer is to work. fidelity: of its knob; None: its default. precision: one of its own."""

    fidelity: float | None = None
    precision: str = "float32"

    def fidelity_of(self, descriptor: EnhancerDescriptor) -> float:
        """The knob's position; 0 for an enhancer without one. Raises OptionError."""
        knob = descriptor.fidelity
        if knob is None:
            if self.fidelity is not None:
                raise OptionError(f"enhance.fidelity: enhancer {descriptor.name!r} has no such knob; leave it out")
            return 0.0
        if self.fidelity is None:
            return knob.default
        if not knob.low <= self.fidelity <= knob.high:
            raise OptionError(
                f"enhance.fidelity: {descriptor.name!r} takes {knob.low:g} to {knob.high:g}, not {self.fidelity:g}"
            )
        return self.fidelity

    def precision_of(self, descriptor: EnhancerDescriptor) -> str:
        """Raises OptionError."""
        if self.precision not in descriptor.precisions:
            allowed = ", ".join(descriptor.precisions)
            raise OptionError(f"enhance.precision: {descriptor.name!r} computes in {allowed}, not {self.precision}")
        return self.precision


DEFAULTS = Options()
"""As published, in float32."""


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
