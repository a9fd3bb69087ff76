"""The base of enhancers that are one network: batches of one shape, value range, precision, grey."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from operators.enhance.contract import DEFAULTS, Described, EnhancerDescriptor, Options
from operators.exact import batch_for, exact
from operators.images import to_grey


class NetworkEnhancer(Described):
    """A network behind the enhancer contract. An architecture gives its module, and overrides `run` where a call of it
    is more than ``network(faces)``.

    To make a face's bytes independent of its batch, the network always sees batches of one shape (1 on a CPU,
    `gpu_batch` padded with zeros on a GPU, or fewer where its memory holds no more): libraries choose the order of
    their sums by the shape.
    """

    memory_format = torch.channels_last
    """How features and weights lie in memory; `torch.contiguous_format` for a network that needs it so."""

    def __init__(
        self,
        network: nn.Module,
        descriptor: EnhancerDescriptor,
        device: str | torch.device = "cpu",
        *,
        options: Options = DEFAULTS,
        gpu_batch: int = 8,
    ) -> None:
        """network: in float32; it is frozen, and moved to `device`. Raises OptionError for a precision or a fidelity
        that `descriptor` does not allow."""
        super().__init__(descriptor)
        self.fidelity = options.fidelity_of(descriptor)
        self._bfloat16 = options.precision_of(descriptor) == "bfloat16"
        self.device = torch.device(device)
        self.network = network.to(self.device).to(memory_format=self.memory_format).eval().requires_grad_(False)
        self._batch = batch_for(self.device, gpu_batch, descriptor.memory)

    def run(self, faces: Tensor) -> Tensor:
        """(B, 3, input_size, input_size) float32 -> (B, 3, output_size, output_size), both in `value_range`."""
        enhanced: Tensor = self.network(faces)
        return enhanced

    def enhance(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See :class:`operators.enhance.contract.Enhancer`. Raises ArithmeticError for an output without numbers."""
        self.check(faces)
        side = self.output_size
        enhanced = np.empty((len(faces), side, side, 3), np.uint8)
        for start in range(0, len(faces), self._batch):
            chunk = faces[start : start + self._batch]
            padded = np.zeros((self._batch, *faces.shape[1:]), np.uint8)
            padded[: len(chunk)] = chunk
            enhanced[start : start + len(chunk)] = self._run(padded)[: len(chunk)]
        grey = (faces == faces[..., :1]).all(axis=(1, 2, 3))
        enhanced[grey] = to_grey(enhanced[grey])  # networks alone tint them
        return enhanced

    @torch.inference_mode()
    def _run(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        low, high = self.descriptor.value_range
        batch = to_network(faces, low, high).to(self.device).contiguous(memory_format=self.memory_format)
        with exact(self.device), torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            enhanced = self.run(batch).float()
        if not torch.isfinite(enhanced).all():
            raise ArithmeticError(f"enhancer {self.name!r} gave no numbers")
        return from_network(enhanced, low, high)


def to_network(faces: NDArray[np.uint8], low: float = -1.0, high: float = 1.0) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [low, high]."""
    levels = torch.from_numpy(np.ascontiguousarray(faces)).permute(0, 3, 1, 2).float()
    return levels / (255.0 / (high - low)) + low


def from_network(faces: Tensor, low: float = -1.0, high: float = 1.0) -> NDArray[np.uint8]:
    """(B, 3, H, W) float, about [low, high] -> (B, H, W, 3) uint8, clamped and rounded to the nearest level."""
    levels = ((faces.float() - low) * (255.0 / (high - low))).clamp(0.0, 255.0).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
