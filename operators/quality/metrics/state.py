"""Published weights, read without running what is in them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from operators.training.weights import WeightsError


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch state dict by name. Raises WeightsError when the file is missing or something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"weights file not found: {path}") from None
    except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
        raise WeightsError(f"not a PyTorch state dict: {path} ({type(error).__name__}); fetch it again") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"not a PyTorch state dict: {path}; fetch it again")
    return dict(state)


def fill(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Give `network`, built on the "meta" device, the tensors of `state`, every name of both, and make it ready.

    Raises WeightsError, naming `path`, when they are another network's.
    """
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} holds other weights than its name says: {first}") from None
    network.eval().requires_grad_(False)
