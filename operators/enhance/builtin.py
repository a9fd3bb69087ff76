"""The enhancer that ships with the package, and any other trained by `dr2e train enhancer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from operators.enhance.contract import Described, EnhancerDescriptor
from operators.enhance.network import SCALE, FaceEnhancer, NetworkConfig
from operators.images import to_grey
from operators.training.weights import WeightsError, load_weights, save_weights, sha256_file

KIND = "enhancer"
"""What the description of an enhancer's weights file names as its kind."""

_GPU_BATCH = 16


class BuiltinEnhancer(Described):
    """Our SPARNet-like network (:mod:`operators.enhance.network`) behind the enhancer contract.

    Built from the file's bytes alone. To make a face's bytes independent of its batch, the network always
    sees batches of one shape (1 on a CPU, 16 padded with zeros on a GPU): libraries choose the order of
    their sums by the shape.
    """

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        state, description = load_weights(path, KIND)
        try:
            self._network = FaceEnhancer(_network_config(description["network"]))
            self._network.load_state_dict(state)
            descriptor = EnhancerDescriptor(
                name=str(description["name"]),
                licence=str(description["licence"]),
                input_size=int(description["input_size"]),
                output_size=int(description["input_size"]) * SCALE,
                value_range=(-1.0, 1.0),
                precisions=("float32",),
                fingerprint=sha256_file(path),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{path} does not hold an enhancer this version can build: {error}") from error
        super().__init__(descriptor)
        # Mirrored around a face before the network sees it and cut off after: its convolutions are padded with zeros,
        # which darkens and colours the outermost pixels.
        self._margin = self._network.config.multiple // 2
        self._device = torch.device(device)
        self._batch = 1 if self._device.type == "cpu" else _GPU_BATCH
        self._network.to(self._device).to(memory_format=torch.channels_last).eval().requires_grad_(False)

    def enhance(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See :class:`operators.enhance.contract.Enhancer`."""
        self.check(faces)
        side = self.output_size
        enhanced = np.empty((len(faces), side, side, 3), np.uint8)
        for start in range(0, len(faces), self._batch):
            chunk = faces[start : start + self._batch]
            padded = np.zeros((self._batch, *faces.shape[1:]), np.uint8)
            padded[: len(chunk)] = chunk
            enhanced[start : start + len(chunk)] = self._run(padded)[: len(chunk)]
        grey = (faces == faces[..., :1]).all(axis=(1, 2, 3))
        enhanced[grey] = to_grey(enhanced[grey])  # the network alone tints them, by two levels in the mean
        return enhanced

    @torch.inference_mode()
    def _run(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        batch = functional.pad(to_network(faces).to(self._device), (self._margin,) * 4, mode="reflect")
        enhanced = self._network(batch.contiguous(memory_format=torch.channels_last))
        margin = self._margin * SCALE
        return from_network(enhanced[..., margin:-margin, margin:-margin])


def to_network(faces: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(faces)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def from_network(faces: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) float, about [-1, 1] -> (B, H, W, 3) uint8, clamped and rounded to the nearest level."""
    levels = ((faces.float() + 1.0) * 127.5).clamp(0.0, 255.0).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def save_enhancer(
    path: Path,
    state: Mapping[str, Tensor],
    config: NetworkConfig,
    *,
    name: str,
    licence: str,
    input_size: int,
    training: Mapping[str, Any],
) -> None:
    """Write weights that :class:`BuiltinEnhancer` loads, stored in float16.

    state: the network's `state_dict`; training: JSON facts about how it came to be.
    """
    description = {
        "kind": KIND,
        "name": name,
        "licence": licence,
        "input_size": input_size,
        "network": asdict(config),
        "training": dict(training),
    }
    save_weights(path, state, description, half=True)


def _network_config(values: Mapping[str, Any]) -> NetworkConfig:
    # JSON knows no tuples.
    arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return NetworkConfig(**arguments)
