"""Networks that the library spandrel builds. It is installed apart, and imported only where a network is built: that
takes seconds."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType

from torch import Tensor, nn

from operators.training.weights import WeightsError

_EXTRA = frozenset({"CodeFormer"})
"""Networks of spandrel_extra_arches, whose code is not for every use."""


def module(name: str) -> ModuleType:
    """What spandrel has of the architecture called `name`. Raises WeightsError where spandrel is not installed."""
    package = "spandrel_extra_arches" if name in _EXTRA else "spandrel"
    try:
        return importlib.import_module(f"{package}.architectures.{name}")
    except ImportError as error:
        raise WeightsError(
            f"{name} needs the package {package}, which cannot be imported here ({error}); "
            "install it with: pip install 'dr2e[spandrel]'"
        ) from None


def network(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The network of a state dict in float32; spandrel reads its sizes off the tensors.

    Raises WeightsError where spandrel is not installed, and for other sizes whatever spandrel or torch say.
    """
    architecture = getattr(module(name), f"{name}Arch")()
    built: nn.Module = architecture.load(in_float32(state)).model
    return built


def in_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of other floating-point formats in float32."""
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
