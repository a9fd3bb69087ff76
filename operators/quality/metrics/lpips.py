"""LPIPS 0.1 with AlexNet (Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018).

pyiqa's class downloads AlexNet whenever it is built, so the network is put together here, from local files alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from operators.quality.metrics.names import LPIPS_BACKBONE, LPIPS_HEADS
from operators.quality.metrics.state import fill, read_state
from operators.training.weights import WeightsError

_LAYERS = (1, 4, 7, 9, 11)  # of torchvision's AlexNet.features: what is compared, after each ReLU
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in [-1, 1]


class Lpips:
    """Perceptual distance; 0 for equal images, lower is closer."""

    def __init__(self, folder: Path) -> None:
        """folder: holds LPIPS_HEADS and LPIPS_BACKBONE. Raises WeightsError naming the file."""
        from torchvision.models import alexnet

        with torch.device("meta"):
            network: nn.Sequential = alexnet(weights=None).features
        backbone = read_state(folder / LPIPS_BACKBONE.name)
        prefix = "features."
        features = {name.removeprefix(prefix): value for name, value in backbone.items() if name.startswith(prefix)}
        fill(network, features, folder / LPIPS_BACKBONE.name)
        heads = read_state(folder / LPIPS_HEADS.name)
        try:
            self.heads = [heads[f"lin{place}.model.1.weight"].float() for place in range(len(_LAYERS))]
        except KeyError as error:
            raise WeightsError(f"{folder / LPIPS_HEADS.name} lacks {error}; fetch it again") from None
        self.network = network[: _LAYERS[-1] + 1]

    @torch.no_grad()
    def distance(self, images: NDArray[np.uint8], truths: NDArray[np.uint8]) -> NDArray[np.float64]:
        """images, truths: (B, H, W, 3) uint8 RGB of one shape. Returns (B,) float64."""
        total = torch.zeros(len(images))
        for head, x, y in zip(self.heads, self._features(images), self._features(truths), strict=True):
            difference = (_normalised(x) - _normalised(y)) ** 2
            total += torch.nn.functional.conv2d(difference, head).mean(dim=(1, 2, 3))
        return total.double().numpy()

    def _features(self, images: NDArray[np.uint8]) -> list[Tensor]:
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1 - shift) / scale
        found = []
        for place, layer in enumerate(self.network):
            x = layer(x)
            if place in _LAYERS:
                found.append(x)
        return found


def _normalised(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
