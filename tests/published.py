"""Checkpoints as their publishers lay them out, with weights drawn from their names: no order of drawing matters."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"


def normal(name: str, shape: Sequence[int]) -> np.ndarray:
    """Standard normal numbers of float32 that belong to `name`."""
    seed = zlib.crc32(("dev:" + name).encode())
    return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)


def weight(key: str, shape: Sequence[int]) -> Tensor:
    """The tensor called `key`: of unit gain with two dimensions or more; a gain about 1, or a small bias, with one."""
    drawn = normal(key, shape)
    if len(shape) > 1:
        drawn = drawn / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        drawn = 1 + 0.1 * drawn
    else:
        drawn = 0.1 * drawn
    return torch.from_numpy(np.asarray(drawn, np.float32))


def seeded(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict with a tensor of each key's shape."""
    return {key: weight(key, shape) for key, shape in shapes.items()}


def state_of(network: torch.nn.Module) -> dict[str, Tensor]:
    """The state dict of a network with such weights, which it takes; variances are positive, counters stay."""
    state = {
        name: weight(name, value.shape) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    state |= {name: value.abs() + 0.5 for name, value in state.items() if name.endswith("running_var")}
    network.load_state_dict(state)
    return state


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """The keys of a network's floating-point tensors, and their shapes."""
    return {key: tuple(value.shape) for key, value in network.state_dict().items() if value.is_floating_point()}


def layout(data: Mapping[str, np.ndarray], name: str) -> dict[str, tuple[int, ...]]:
    """The keys and shapes that a file of `tests/data` has under `name`, in the published order."""
    pairs = zip(data[f"{name}_keys"].tolist(), data[f"{name}_shapes"].tolist(), strict=True)
    return {key: tuple(int(side) for side in shape.split(",")) for key, shape in pairs}


def save(path: Path, state: Mapping[str, Tensor], wrapper: str = "") -> Path:
    """Write a checkpoint of PyTorch with `state` at its top, or under `wrapper` such as "params_ema"."""
    torch.save({wrapper: dict(state)} if wrapper else dict(state), path)
    return path


def faces(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8: coloured squares of 8 px, for what need not be faces."""
    levels = np.clip(128 + 48 * normal(f"input:faces:{size}", (count, size // 8, size // 8, 3)), 0, 255)
    return levels.round().astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
