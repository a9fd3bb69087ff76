"""float32 that is float32, and the same each time, on a GPU too."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

SHARE = 0.25
"""Of a GPU's memory that one network's batch may take: other stages are on it as well."""


def exact(device: torch.device) -> AbstractContextManager[None]:
    """Inside, a GPU's convolutions keep all 23 bits (cuDNN's default rounds them to 10, as TF32, after which another
    code of a codebook may be the nearest), and take an algorithm that gives the same bytes each time."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def batch_for(device: torch.device, most: int, memory: int) -> int:
    """Faces that go through a network together: one on a CPU; on a GPU the largest power of two, `most` at most, that
    SHARE of its memory holds. memory: bytes of one face, 0 where nobody measured.

    It follows from the kind of GPU alone, because libraries choose the order of their sums by it.
    """
    if device.type != "cuda":
        return 1
    room = torch.cuda.get_device_properties(device).total_memory * SHARE
    batch = most
    while batch > 1 and batch * memory > room:
        batch //= 2
    return batch
