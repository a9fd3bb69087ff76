"""The random draws of a face, addressed instead of consumed.

A draw is found by (seed, key, face index, purpose, timestep). It depends on nothing else: not on the
batch, the worker, the order, nor on which chains run. Chains of different N over one face therefore
share their noise, which makes their candidates comparable.

The bits are those of Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a function
of a key and a counter, so every device computes the same ones. Box and Muller's transform makes normal numbers of
them, which agree between devices but for the rounding of log, sine and cosine.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from operators.dr2.recorded import compiled, to_device

_PURPOSES = {"start": 0, "reverse": 1, "refine": 2}


class Noise(Protocol):
    """Standard normal draws (C, S, S) float32 for one face."""

    def draw(self, purpose: str, timestep: int, shape: tuple[int, ...]) -> Tensor:
        """purpose: "start" (of y_omega), "reverse" (the reverse step), "refine" (y_{t-1} of Eq. 9)."""
        ...


class FaceNoise:
    """Draws keyed by the face.

    timestep is the original timestep of the trained schedule, so that a chain with another stride
    meets the same noise at the same noise level.

    key: two words of 64 bits, signed.
    """

    def __init__(self, seed: int, key: str, face_index: int) -> None:
        digest = hashlib.sha256(f"{seed}\0{key}\0{face_index}".encode()).digest()
        first, second = struct.unpack("<2q", digest[:16])
        self.key: tuple[int, int] = (first, second)

    def draw(self, purpose: str, timestep: int, shape: tuple[int, ...]) -> Tensor:
        """See `Noise`. NumPy's Philox, on the CPU."""
        counter = np.array([0, 0, timestep, _PURPOSES[purpose]], dtype=np.uint64)
        source = np.random.Philox(key=np.array(self.key).view(np.uint64), counter=counter)
        count = math.prod(shape)
        bits = torch.from_numpy(source.random_raw((count + 1) // 2).view(np.int64))
        return box_muller(bits)[:count].reshape(shape)


def draws(
    noise: Sequence[Noise], purpose: str, timesteps: Sequence[int], shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """One draw of each face, (B, *shape) float32 on `device`; a GPU makes those of `FaceNoise` itself.

    timesteps: one per face.
    """
    addressed = [source for source in noise if isinstance(source, FaceNoise)]
    if device.type == "cpu" or len(addressed) < len(noise):
        drawn: dict[tuple[Noise, int], Tensor] = {}  # padding repeats a face, which draws once
        for source, timestep in zip(noise, timesteps, strict=True):
            if (source, timestep) not in drawn:
                drawn[source, timestep] = source.draw(purpose, timestep, shape)
        return torch.stack([drawn[address] for address in zip(noise, timesteps, strict=True)]).to(device)
    count = math.prod(shape)
    addresses = [
        [*source.key, timestep, _PURPOSES[purpose]] for source, timestep in zip(addressed, timesteps, strict=True)
    ]
    where = to_device(torch.tensor(addresses, dtype=torch.int64), device)
    blocks = torch.arange(1, (count + 7) // 8 + 1, device=device)  # NumPy counts before it draws
    return _counted_on_gpu()(where, blocks, count).reshape(len(noise), *shape)


@cache
def _counted_on_gpu() -> Callable[[Tensor, Tensor, int], Tensor]:
    return compiled(counted)


def counted(addresses: Tensor, blocks: Tensor, count: int) -> Tensor:
    """(B, count) float32 draws.

    addresses: (B, 4) int64: the two words of a face's key, a timestep and a purpose. blocks: 1, 2, ... int64, one for
    every eight draws.
    """
    first, second, timesteps, purposes = addresses.T[..., None]
    bits = philox((blocks[None], torch.zeros_like(blocks), timesteps, purposes), (first, second))
    words = torch.stack(torch.broadcast_tensors(*bits), dim=-1).flatten(1)
    return box_muller(words[:, : (count + 1) // 2])[:, :count]


_LOW = 0xFFFFFFFF


def _signed(word: int) -> int:
    """The int64 of the same 64 bits; torch has no arithmetic for uint64."""
    return word - (1 << 64) if word >> 63 else word


_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox 4x64-10: four words for each counter of four and key of two. All int64 and broadcast together."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _product(_MULTIPLIERS[0], c0)
        high1, low1 = _product(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _signed(_WEYL[0]), k1 + _signed(_WEYL[1])
    return c0, c1, c2, c3


def _product(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """The high and the low 64 bits of an unsigned product, by halves of 32 bits."""
    a1, a0 = constant >> 32, constant & _LOW
    b1, b0 = _upper(word), word & _LOW
    middle = a1 * b0 + _upper(a0 * b0)
    high = a1 * b1 + _upper(middle) + _upper(a0 * b1 + (middle & _LOW))
    return high, word * _signed(constant)


def _upper(word: Tensor) -> Tensor:
    """The upper 32 bits, unsigned."""
    return (word >> 32) & _LOW


def box_muller(bits: Tensor) -> Tensor:
    """Standard normal (..., 2 n) float32 of (..., n) int64 random words.

    sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v), with u in (0, 1] and v in [0, 1] of the lower and the upper 32 bits.
    """
    u = ((bits & _LOW).float() + 0.5) * 2.0**-32
    angle = _upper(bits).float() * (2 * math.pi * 2.0**-32)
    radius = (-2 * u.log()).sqrt()
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)
