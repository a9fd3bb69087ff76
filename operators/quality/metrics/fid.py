"""FID (Heusel et al., NeurIPS 2017), resized as Clean-FID does (Parmar et al., CVPR 2022), from local weights alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from operators.quality.metrics.names import FID_INCEPTION
from operators.quality.metrics.state import fill, read_state

_SIDE = 299


class Inception:
    """The features that FID compares: 2,048 per image, of the Inception network the metric was defined with."""

    def __init__(self, folder: Path) -> None:
        """folder: holds FID_INCEPTION. Raises WeightsError naming the file."""
        with torch.device("meta"):
            self.network = _network()
        path = folder / FID_INCEPTION.name
        fill(self.network, read_state(path), path)
        self.network.fc = nn.Identity()

    @torch.no_grad()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, H, W, 3) uint8 RGB -> (B, 2048) float32."""
        batch = torch.from_numpy(np.stack([_resized(image) for image in images])).permute(0, 3, 1, 2)
        return self.network((batch - 128) / 128).numpy()


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """The Fréchet distance between the Gaussians of two sets of features.

        |m_a - m_b|^2 + Tr(C_a) + Tr(C_b) - 2 Tr((C_a C_b)^(1/2))

    a: (n_a, D), b: (n_b, D), any float dtype, two rows at least; few rows bias it upwards. With C_a = A^T A and
    C_b = B^T B for the centred, scaled features A and B, the last trace is the sum of the singular values of A B^T:
    no root of a D x D matrix, and nothing to regularise when there are fewer rows than D.
    Raises ValueError for fewer rows.
    """
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"a covariance needs two faces at least, got {len(a)} and {len(b)}")
    mean_a, mean_b = a.mean(axis=0, dtype=np.float64), b.mean(axis=0, dtype=np.float64)
    spread_a, spread_b = _factor(a, mean_a), _factor(b, mean_b)
    shared = np.linalg.norm(spread_a @ spread_b.T, ord="nuc")
    distance = ((mean_a - mean_b) ** 2).sum() + (spread_a**2).sum() + (spread_b**2).sum() - 2 * shared
    return float(max(distance, 0.0))


def _factor(features: NDArray[np.floating], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """R with R^T R the covariance, at most D rows."""
    root: NDArray[np.float64] = scipy.linalg.qr((features - mean) / np.sqrt(len(features) - 1), mode="r")[0]
    return root[: features.shape[1]]


def _network() -> nn.Module:
    """pytorch-fid's network, without weights: torchvision's Inception with the branches of the TensorFlow original.

    pyiqa has the branches; its own constructor of the whole downloads.
    """
    from pyiqa.archs.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
    from torchvision.models import Inception3

    network: nn.Module = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    branches = {
        "Mixed_5b": FIDInceptionA(192, pool_features=32),
        "Mixed_5c": FIDInceptionA(256, pool_features=64),
        "Mixed_5d": FIDInceptionA(288, pool_features=64),
        "Mixed_6b": FIDInceptionC(768, channels_7x7=128),
        "Mixed_6c": FIDInceptionC(768, channels_7x7=160),
        "Mixed_6d": FIDInceptionC(768, channels_7x7=160),
        "Mixed_6e": FIDInceptionC(768, channels_7x7=192),
        "Mixed_7b": FIDInceptionE_1(1280),
        "Mixed_7c": FIDInceptionE_2(2048),
    }
    for name, branch in branches.items():
        setattr(network, name, branch)
    return network


def _resized(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 -> (299, 299, 3) float32 in 0-255: bicubic, antialiased, never rounded to 8 bits."""
    channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    drawn = [np.asarray(channel.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)) for channel in channels]
    return np.stack(drawn, axis=-1).clip(0, 255)
