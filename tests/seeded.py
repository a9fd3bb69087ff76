"""Seeded weights in published layouts: each tensor is drawn from its name, as for the golden numbers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """float32: unit variance over the fan-in for matrices and kernels, 1 + 0.1 w for scales, 0.1 w for biases."""
    drawn = np.random.default_rng(zlib.crc32(f"dev:{name}".encode())).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        return torch.from_numpy(drawn / math.sqrt(math.prod(shape[1:])))
    return torch.from_numpy(1 + 0.1 * drawn if name.endswith(".weight") else 0.1 * drawn)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of a network with such weights, which it takes; variances are positive, counters stay."""
    state = {
        name: value if not value.is_floating_point() else tensor(name, tuple(value.shape))
        for name, value in network.state_dict().items()
    }
    state |= {name: value.abs() + 0.5 for name, value in state.items() if name.endswith("running_var")}
    network.load_state_dict(state)
    return state


def state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Such weights of these names and shapes."""
    return {name: tensor(name, shape) for name, shape in shapes.items()}
