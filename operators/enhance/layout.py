"""Networks as their checkpoints describe them: sizes read off the tensors, and the tensors put in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from operators.enhance.architecture import State

Network = TypeVar("Network", bound=nn.Module)


def tensor(state: State, key: str) -> Tensor:
    """Raises ValueError where the checkpoint has no such tensor."""
    if key not in state:
        raise ValueError(f"the tensor {key} is missing")
    return state[key]


def side(state: State, key: str, dimension: int = 0) -> int:
    """The size of a tensor's dimension, the first of which counts a layer's outputs. Raises ValueError."""
    shape = tensor(state, key).shape
    if len(shape) <= dimension:
        raise ValueError(f"the tensor {key} has the shape {tuple(shape)}")
    return int(shape[dimension])


def children(state: State, prefix: str) -> set[str]:
    """The names that follow `prefix` and a dot in the keys: of the modules and tensors of a module."""
    start = prefix + "."
    return {key[len(start) :].split(".")[0] for key in state if key.startswith(start)}


def count(state: State, prefix: str) -> int:
    """How many modules the list called `prefix` has: one more than its highest index, 0 where it has none."""
    return 1 + max((int(name) for name in children(state, prefix) if name.isdecimal()), default=-1)


def placed(build: Callable[[], Network], state: State) -> Network:
    """The network with the checkpoint's tensors in float32, each in its place; for inference.

    build: makes the network; its own tensors are never allocated. Raises RuntimeError where a tensor is missing, left
    over, or of another shape.
    """
    with torch.device("meta"):
        network = build()
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)
