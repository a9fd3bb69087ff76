"""Whether it is still the same person: the angle between ArcFace embeddings (Deng et al., CVPR 2019).

The network is facexlib's IR-SE-50. facexlib is an optional dependency, imported where the network is built.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from operators.detect.align import similarity, template, warp
from operators.quality.metrics.names import ARCFACE
from operators.quality.metrics.state import fill, read_state
from operators.training.weights import WeightsError

SIDE = 112
"""Pixels a side of what the network sees."""

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where the five landmarks lie in it, as InsightFace aligned the training faces."""


class ArcFace:
    """Angle between two faces in degrees; 0 for equal images, 90 for unrelated ones."""

    def __init__(self, folder: Path) -> None:
        """folder: holds ARCFACE. Raises WeightsError naming the file, or that facexlib is missing."""
        try:
            from facexlib.recognition.arcface_arch import Backbone
        except ImportError as error:
            raise WeightsError("the ArcFace angle needs facexlib: pip install 'dr2e[retinaface]'") from error
        with torch.device("meta"):
            self.network = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
        fill(self.network, read_state(folder / ARCFACE.name), folder / ARCFACE.name)

    def angle(self, images: NDArray[np.uint8], truths: NDArray[np.uint8]) -> NDArray[np.float64]:
        """images, truths: (B, S, S, 3) uint8 RGB on the FFHQ template. Returns (B,) float64 in [0, 180]."""
        cosines = (self._embed(images) * self._embed(truths)).sum(axis=1)
        return np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))

    @torch.no_grad()
    def _embed(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Unit vectors (B, 512)."""
        to_network = similarity(template(faces.shape[1]), TEMPLATE)
        crops = np.stack([warp(face, to_network, SIDE) for face in faces])
        batch = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        vectors = self.network(batch).double().numpy()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
