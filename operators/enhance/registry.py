"""Enhancers by name. A new architecture is one module with a class and one line in `_BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from operators import weights
from operators.enhance.bicubic import BicubicEnhancer
from operators.enhance.builtin import BuiltinEnhancer
from operators.enhance.contract import Enhancer


class UnknownEnhancer(ValueError):
    """The source is neither a registered name nor the path of a weights file; the message lists the names."""


def _builtin(device: torch.device) -> Enhancer:
    return BuiltinEnhancer(weights.builtin("enhancer"), device)


def _none(device: torch.device) -> Enhancer:
    return BicubicEnhancer()


_BUILDERS: dict[str, Callable[[torch.device], Enhancer]] = {"builtin": _builtin, "none": _none}


def names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_BUILDERS))


def load(source: str | Path, device: str | torch.device = "cpu") -> Enhancer:
    """The enhancer called `source`, ready on `device`.

    source: "builtin" (the model in the package), "none" (bicubic enlargement only), or the path of a
    `.safetensors` file written by `dr2e train enhancer`.

    Raises UnknownEnhancer for a name nobody registered, WeightsError (operators.training.weights) for a file
    that is missing, broken or of another kind.
    """
    if isinstance(source, str) and source in _BUILDERS:
        return _BUILDERS[source](torch.device(device))
    if Path(source).suffix == ".safetensors":
        return BuiltinEnhancer(Path(source), device)
    raise UnknownEnhancer(
        f"unknown enhancer {str(source)!r}: use {', '.join(names())} or the path of a .safetensors file"
    )
