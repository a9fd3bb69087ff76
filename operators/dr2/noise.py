"""The random draws of a face, addressed instead of consumed.

A draw is found by (seed, key, face index, purpose, step). It depends on nothing else: not on the
batch, the worker, the order, nor on which chains run. Chains of different N over one face therefore
share their noise, which makes their candidates comparable.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_PURPOSES = {"start": 0, "reverse": 1, "refine": 2}


class Noise(Protocol):
    """Standard normal draws (C, S, S) float32 for one face."""

    def draw(self, purpose: str, timestep: int, shape: tuple[int, ...]) -> Tensor:
        """purpose: "start" (of y_omega), "reverse" (the reverse step), "refine" (y_{t-1} of Eq. 9)."""
        ...


class FaceNoise:
    """Counter-based draws (Philox 4x64) keyed by the face.

    timestep is the original timestep of the trained schedule, so that a chain with another stride
    meets the same noise at the same noise level.
    """

    def __init__(self, seed: int, key: str, face_index: int) -> None:
        digest = hashlib.sha256(f"{seed}\0{key}\0{face_index}".encode()).digest()
        self._key = np.frombuffer(digest[:16], dtype="<u8")

    def draw(self, purpose: str, timestep: int, shape: tuple[int, ...]) -> Tensor:
        counter = np.array([0, 0, timestep, _PURPOSES[purpose]], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        return torch.from_numpy(generator.standard_normal(shape, np.float32))
