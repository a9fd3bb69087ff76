"""Enhancers by name, and by the file of their weights, whose keys tell the architecture.

A new architecture is one module with its network and its `Architecture`, and one line in `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from operators import weights
from operators.enhance import codeformer, gfpgan, gpen, restoreformer, sparnet, vqfr
from operators.enhance.architecture import Architecture
from operators.enhance.bicubic import BicubicEnhancer
from operators.enhance.builtin import BuiltinEnhancer
from operators.enhance.contract import DEFAULTS, Enhancer, Identity, Options
from operators.training.weights import WeightsError, is_ours, sha256_file
from operators.weights.reading import SUFFIXES, read_state

ARCHITECTURES: tuple[Architecture, ...] = (
    sparnet.ARCHITECTURE,
    vqfr.V1,
    vqfr.V2,
    gpen.ARCHITECTURE,
    gfpgan.ARCHITECTURE,
    codeformer.ARCHITECTURE,
    restoreformer.ARCHITECTURE,
)
"""Published ones, the first that recognises a checkpoint builds it."""


class UnknownEnhancer(ValueError):
    """The source is neither a registered name nor the path of a weights file; the message lists the names."""


def _builtin(device: torch.device, options: Options) -> Enhancer:
    return BuiltinEnhancer(weights.builtin("enhancer"), device, options)


def _none(device: torch.device, options: Options) -> Enhancer:
    return BicubicEnhancer()


_BUILDERS: dict[str, Callable[[torch.device, Options], Enhancer]] = {"builtin": _builtin, "none": _none}


def names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_BUILDERS))


def load(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    options: Options = DEFAULTS,
    identity: Identity | None = None,
) -> Enhancer:
    """The enhancer called `source`, ready on `device`.

    source: "builtin" (the model in the package), "none" (bicubic enlargement only), or the path of a weights file:
    one written by `dr2e train enhancer`, or a published checkpoint of one of ARCHITECTURES. identity: what the
    descriptor says of a published one; by default its file's name, and a licence to be asked for at its publisher.

    Raises UnknownEnhancer for a name nobody registered, WeightsError (operators.training.weights) for a file
    that is missing, broken or of another kind, OptionError for options the enhancer does not have.
    """
    device = torch.device(device)
    if isinstance(source, str) and source in _BUILDERS:
        return _BUILDERS[source](device, options)
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        raise UnknownEnhancer(
            f"unknown enhancer {str(source)!r}: use {', '.join(names())} or the path of a weights file "
            f"({', '.join(SUFFIXES)})"
        )
    if is_ours(path):
        return BuiltinEnhancer(path, device, options)
    return _published(path, device, options, identity)


def _published(path: Path, device: torch.device, options: Options, identity: Identity | None) -> Enhancer:
    state = read_state(path)
    identity = identity or Identity(path.name, "see its publisher", sha256_file(path))
    for architecture in ARCHITECTURES:
        if architecture.recognises(state):
            return architecture.load(state, path, identity, device, options)
    known = ", ".join(architecture.name for architecture in ARCHITECTURES)
    first = ", ".join(sorted(state)[:3])
    raise WeightsError(f"{path} is no enhancer that is known here ({known}); its tensors are called {first}, ...")
