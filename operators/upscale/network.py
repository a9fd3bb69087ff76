"""Super-resolution networks of others: Real-ESRGAN's, and whatever else spandrel knows.

spandrel is an optional dependency, imported where a network is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from operators.exact import exact
from operators.training.weights import WeightsError, sha256_file
from operators.upscale.contract import unwatched
from operators.upscale.tiles import BLEND, REACH, enlarge_in_tiles
from operators.weights.reading import read_state

RANDOM = frozenset({"AuraSR"})
"""Architectures of spandrel that draw random numbers when they are used."""


class NetworkUpscaler:
    """A super-resolution network in tiles, an `Upscaler`.

    A network that enlarges by more than is asked for is averaged down to it, tile by tile.
    """

    licence = "see its publisher"

    def __init__(
        self,
        model: Any,
        scale: int,
        *,
        name: str,
        fingerprint: str,
        device: str | torch.device = "cpu",
        tile: int = 256,
    ) -> None:
        """model: a descriptor of spandrel, as `read_model` returns it. tile: pixels of the photograph a side, a
        multiple of REACH. Raises ValueError for another tile, or a scale that the network cannot give."""
        if tile <= 2 * BLEND or tile % REACH:
            raise ValueError(f"a tile's side is a multiple of {REACH}, not {tile}")
        if scale > model.scale or model.scale % scale:
            raise ValueError(f"the network enlarges {model.scale} times, which does not give {scale} times")
        self.scale, self.name, self.fingerprint, self.tile = scale, name, fingerprint, tile
        self.device = torch.device(device)
        self.model = model.to(self.device).float().eval()
        self.model.model.requires_grad_(False)

    @classmethod
    def load(cls, path: Path, scale: int, device: str | torch.device = "cpu", tile: int = 256) -> NetworkUpscaler:
        """The network of a published checkpoint. Raises WeightsError for what is none, or cannot give `scale`."""
        model = read_model(path)
        try:
            return cls(model, scale, name=path.name, fingerprint=sha256_file(path), device=device, tile=tile)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}; name another network, or set write.upscale to it") from None

    def enlarge(self, photo: NDArray[np.uint8], progress: Callable[[], None] = unwatched) -> NDArray[np.uint8]:
        """See :class:`operators.upscale.contract.Upscaler`. The tile's side decides the last digits."""
        return enlarge_in_tiles(photo, self._run, self.scale, self.tile, progress)

    @torch.inference_mode()
    def _run(self, seen: Tensor) -> Tensor:
        with exact(self.device):
            drawn: Tensor = self.model(seen.to(self.device))
        if not torch.isfinite(drawn).all():
            raise ArithmeticError(f"upscaler {self.name!r} gave no numbers")
        if self.model.scale > self.scale:
            drawn = functional.avg_pool2d(drawn, self.model.scale // self.scale)
        return drawn.cpu()


def scale_of(path: Path) -> int:
    """How many times larger the network in `path` makes photographs. Raises WeightsError, as `read_model`."""
    return int(read_model(path).scale)


def architecture_of(state: Mapping[str, Tensor]) -> str | None:
    """What spandrel calls the super-resolution network of a state dict, told by its tensors' names; None where it knows
    none, or is not installed."""
    try:
        from spandrel import MAIN_REGISTRY
    except ImportError:
        return None
    for support in MAIN_REGISTRY.architectures():
        if support.architecture.detect(state):
            return str(support.architecture.name)
    return None


def read_model(path: Path) -> Any:
    """spandrel's descriptor of the super-resolution network in `path`, on the CPU.

    Raises WeightsError for a file that is missing, broken or of no such network, and where spandrel is not installed.
    """
    state = read_state(path)
    try:
        from spandrel import ModelLoader, UnsupportedModelError
    except ImportError:
        raise WeightsError(f"{path} needs spandrel: pip install 'dr2e[spandrel]', or use 'bicubic'") from None
    try:
        model = ModelLoader().load_from_state_dict(state)
    except UnsupportedModelError:
        first = ", ".join(sorted(state)[:3])
        raise WeightsError(f"{path} is no network that spandrel knows; its tensors are called {first}, ...") from None
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{path} is of a size or version that spandrel cannot build: {reason}") from error
    kind = f"a network for {model.purpose} ({model.architecture.name})"
    if model.purpose != "SR":
        raise WeightsError(f"{path} holds {kind}; name one for super-resolution, such as RealESRGAN_x4plus.pth")
    if model.architecture.id in RANDOM:
        raise WeightsError(f"{path} holds {kind}, which draws random numbers: it would not give the same bytes twice")
    if (model.input_channels, model.output_channels) != (3, 3):
        raise WeightsError(f"{path} holds {kind} of {model.input_channels} channels; name one for colour")
    if REACH % (model.size_requirements.multiple_of or 1):
        raise WeightsError(f"{path} holds {kind} that takes multiples of {model.size_requirements.multiple_of} pixels")
    return model
