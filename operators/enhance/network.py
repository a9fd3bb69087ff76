"""The built-in enhancer's network: a small face super-resolver after SPARNet.

SPARNet (Chen et al., "Learning Spatial Attention for Face Super-Resolution", IEEE TIP 2021,
arXiv 2012.01211) weighs each residual block by a spatial attention map, so that capacity goes to the
eyes, the mouth and the hair line instead of to skin and background. This is that idea at a thousandth
of SPARNetHD's cost, in an own implementation:

- the input is folded 2 x 2 into channels, the body runs at 1/2, 1/4 and 1/8 of the input's size;
- the output is the bicubic enlargement of the input plus a learned residual, which starts at zero:
  an untrained network is exactly the bicubic enlargement, and what it cannot tell it leaves alone;
- there is no normalisation layer, so a face's result does not depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

SCALE = 2
"""Side of the output over side of the input."""

MULTIPLE = 16
"""The input's height and width must be multiples of this (fold, two halvings, attention's halving)."""

_FOLD = 2  # the body's finest level works on 2 x 2 blocks of input pixels
_SLOPE = 0.2  # of the leaky ReLU below zero, as in SPARNet


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a :class:`FaceEnhancer`. The defaults are those of the built-in model.

    widths: channels at 1/2, 1/4 and 1/8 of the input's size; encoder, middle and decoder: attention
    blocks on the way down (at 1/2 and 1/4), at 1/8, and on the way up (at 1/4 and 1/2); detail: channels
    at the input's own size in front of the last pixel shuffle.
    """

    widths: tuple[int, int, int] = (48, 80, 112)
    encoder: tuple[int, int] = (1, 1)
    middle: int = 2
    decoder: tuple[int, int] = (1, 1)
    detail: int = 16

    def __post_init__(self) -> None:
        if min(*self.widths, *self.encoder, self.middle, *self.decoder, self.detail) < 1:
            raise ValueError(f"every width and count of an enhancer network must be at least 1: {self}")


def check_side(*sides: int) -> None:
    """Raises ValueError unless every side is a positive multiple of MULTIPLE."""
    if any(side < MULTIPLE or side % MULTIPLE for side in sides):
        raise ValueError(f"an enhancer takes faces whose sides are multiples of {MULTIPLE}, not {sides}")


def enlarge(faces: Tensor, scale: int = SCALE) -> Tensor:
    """Bicubic enlargement (Keys' kernel, a = -0.5) of (B, 3, H, W) floats to (B, 3, scale H, scale W).

    ``antialias=True`` changes nothing when enlarging but the kernel: PyTorch's other one has a = -0.75
    and overshoots more.
    """
    size = (faces.shape[-2] * scale, faces.shape[-1] * scale)
    return functional.interpolate(faces, size=size, mode="bicubic", align_corners=False, antialias=True)


class SpatialAttention(nn.Module):
    """A map in (0, 1) that says where a block's residual counts, seen at half size for its context."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, channels // 4)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.down = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        self.context = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.map = nn.Conv2d(hidden, 1, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) with even H and W -> (B, 1, H, W)."""
        fine = functional.leaky_relu(self.squeeze(features), _SLOPE)
        coarse = functional.leaky_relu(self.down(fine), _SLOPE)
        coarse = functional.leaky_relu(self.context(coarse), _SLOPE)
        context = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return torch.sigmoid(self.map(fine + context))


class FaceAttentionUnit(nn.Module):
    """x + attention(r) * r with r = conv(act(conv(act(x)))): SPARNet's block without its batch norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = SpatialAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        residual = functional.leaky_relu(self.first(functional.leaky_relu(x, _SLOPE)), _SLOPE)
        residual = self.second(residual)
        return x + self.attention(residual) * residual


def _units(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(FaceAttentionUnit(channels) for _ in range(count)))


class FaceEnhancer(nn.Module):
    """Soft face in, sharp face of twice the size out; RGB in [-1, 1] on both sides."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetworkConfig()
        fine, middle, coarse = self.config.widths
        detail = self.config.detail
        self.stem = nn.Conv2d(3 * _FOLD**2, fine, 3, padding=1)
        self.encode_fine = _units(fine, self.config.encoder[0])
        self.down_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.encode_middle = _units(middle, self.config.encoder[1])
        self.down_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.encode_coarse = _units(coarse, self.config.middle)
        # One pixel shuffle per level on the way up: cheaper than a transposed convolution, no overlaps.
        self.up_middle = nn.Conv2d(coarse, middle * 4, 1)
        self.decode_middle = _units(middle, self.config.decoder[0])
        self.up_fine = nn.Conv2d(middle, fine * 4, 1)
        self.decode_fine = _units(fine, self.config.decoder[1])
        self.up_detail = nn.Conv2d(fine, detail * _FOLD**2, 3, padding=1)
        self.refine = nn.Conv2d(detail + 3, detail, 3, padding=1)
        self.to_rgb = nn.Conv2d(detail, 3 * SCALE**2, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, FaceAttentionUnit):
                # Small residuals keep the untrained sum over blocks at the scale of its input.
                module.second.weight.data.mul_(0.1)
        nn.init.zeros_(self.to_rgb.weight)

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] -> (B, 3, 2H, 2W) float, about [-1, 1] and not clamped.

        Raises ValueError when H or W is not a multiple of MULTIPLE.
        """
        check_side(*faces.shape[-2:])
        fine = self.encode_fine(self.stem(functional.pixel_unshuffle(faces, _FOLD)))
        middle = self.encode_middle(self.down_middle(fine))
        coarse = self.encode_coarse(self.down_coarse(middle))
        middle = self.decode_middle(middle + functional.pixel_shuffle(self.up_middle(coarse), 2))
        fine = self.decode_fine(fine + functional.pixel_shuffle(self.up_fine(middle), 2))
        detail = functional.pixel_shuffle(functional.leaky_relu(self.up_detail(fine), _SLOPE), _FOLD)
        detail = functional.leaky_relu(self.refine(torch.cat((detail, faces), dim=1)), _SLOPE)
        return enlarge(faces) + functional.pixel_shuffle(self.to_rgb(detail), SCALE)
