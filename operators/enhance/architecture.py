"""A published enhancer's architecture: how its checkpoints are recognised, and what makes an enhancer of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from operators.enhance.contract import Enhancer, Identity, OptionError, Options
from operators.training.weights import WeightsError

State = Mapping[str, Tensor]
"""A checkpoint's tensors by the names its network gives them."""


@dataclass(frozen=True)
class Architecture:
    """name: as published. recognises: whether a state dict is of this architecture, by its keys alone. build: the
    enhancer of such a state dict; may raise what it likes when shapes or keys do not make one up."""

    name: str
    recognises: Callable[[State], bool]
    build: Callable[[State, Identity, torch.device, Options], Enhancer]

    def load(self, state: State, path: Path, identity: Identity, device: torch.device, options: Options) -> Enhancer:
        """`build`, and for what it cannot build one line that names the file.

        Raises WeightsError, and OptionError for options the enhancer does not have.
        """
        try:
            return self.build(state, identity, device, options)
        except (OptionError, WeightsError, torch.OutOfMemoryError):
            raise
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:300]
            raise WeightsError(
                f"{path} looks like {self.name}, but is of a size or version that cannot be built here: {reason}"
            ) from error
