"""The enhancer that ships with the package, and any other trained by `dr2e train enhancer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.contract import DEFAULTS, EnhancerDescriptor, Options
from operators.enhance.network import SCALE, FaceEnhancer, NetworkConfig
from operators.training.weights import WeightsError, load_weights, save_weights, sha256_file

KIND = "enhancer"
"""What the description of an enhancer's weights file names as its kind."""

_GPU_BATCH = 16


class BuiltinEnhancer(NetworkEnhancer):
    """Our SPARNet-like network (:mod:`operators.enhance.network`) behind the enhancer contract, built from the file's
    bytes alone."""

    def __init__(self, path: Path, device: str | torch.device = "cpu", options: Options = DEFAULTS) -> None:
        state, description = load_weights(path, KIND)
        try:
            network = FaceEnhancer(_network_config(description["network"]))
            network.load_state_dict(state)
            descriptor = EnhancerDescriptor(
                name=str(description["name"]),
                licence=str(description["licence"]),
                input_size=int(description["input_size"]),
                output_size=int(description["input_size"]) * SCALE,
                value_range=(-1.0, 1.0),
                precisions=("float32",),
                fingerprint=sha256_file(path),
                architecture="FaceEnhancer",
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{path} does not hold an enhancer this version can build: {error}") from error
        super().__init__(network, descriptor, device, options=options, gpu_batch=_GPU_BATCH)
        # Mirrored around a face before the network sees it and cut off after: its convolutions are padded with zeros,
        # which darkens and colours the outermost pixels.
        self._margin = network.config.multiple // 2

    def run(self, faces: Tensor) -> Tensor:
        """See :class:`NetworkEnhancer`."""
        batch = functional.pad(faces, (self._margin,) * 4, mode="reflect")
        enhanced: Tensor = self.network(batch.contiguous(memory_format=torch.channels_last))
        margin = self._margin * SCALE
        return enhanced[..., margin:-margin, margin:-margin]


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
