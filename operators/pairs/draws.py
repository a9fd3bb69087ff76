"""Random draws of a pair, addressed instead of consumed: a pair is the same whatever else is made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

Purpose = Literal["recipe", "parameters", "noise"]


@dataclass(frozen=True)
class Address:
    """Which pair. seed: of the run; key, face: of the photo, and which face of it; pair: 0, 1, ... of the face."""

    seed: int
    key: str
    face: int
    pair: int

    def rng(self, purpose: Purpose) -> np.random.Generator:
        """A generator of its own for each purpose (Philox 4x64, keyed by SHA-256): how many numbers one of them takes
        changes nothing for another."""
        text = f"{self.seed}\0{self.key}\0{self.face}\0{self.pair}\0{purpose}"
        key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8")
        return np.random.Generator(np.random.Philox(key=key))
