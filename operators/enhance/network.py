"""The built-in enhancer's network: a small face super-resolver after SPARNet.

SPARNet (Chen et al., "Learning Spatial Attention for Face Super-Resolution", IEEE TIP 2021,
arXiv 2012.01211) weighs each residual block by a spatial attention map, so that capacity goes to the
eyes, the mouth and the hair line instead of to skin and background. This is that idea at a thousandth
of SPARNetHD's cost, in an own implementation:

- the input is folded 2 x 2 into channels, the body runs at 1/2, 1/4, 1/8 and 1/16 of the input's size; the coarsest
  level sees the whole face at once for next to nothing, which is what a face that shows little needs;
- the output is the bicubic enlargement of the input plus a learned residual, which starts at zero:
  an untrained network is exactly the bicubic enlargement, and what it cannot tell it leaves alone;
- there is no normalisation layer, so a face's result does not depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

SCALE = 2
"""Side of the output over side of the input."""

_FOLD = 2  # the body's finest level works on 2 x 2 blocks of input pixels
_SLOPE = 0.2  # of the leaky ReLU below zero, as in SPARNet


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a :class:`FaceEnhancer`. The defaults are those of the built-in model.

    widths: channels at 1/2, 1/4, ... of the input's size, finest first; blocks: attention blocks at each of these
    levels, once on the way down and once on the way up, and once at the coarsest; detail: channels at the input's
    own size in front of the last pixel shuffle. Raises ValueError for a width or count below one.
    """

    widths: tuple[int, ...] = (48, 80, 128, 192)
    blocks: tuple[int, ...] = (1, 1, 1, 2)
    detail: int = 16

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks) or not self.widths:
            raise ValueError(f"an enhancer network needs as many widths as counts of blocks: {self}")
        if min(*self.widths, *self.blocks, self.detail) < 1:
            raise ValueError(f"every width and count of an enhancer network must be at least 1: {self}")

    @property
    def multiple(self) -> int:
        """What the input's height and width must be multiples of: fold, one halving per level, attention's halving."""
        return _FOLD * 2 ** len(self.widths)

    def check_sides(self, *sides: int) -> None:
        """Raises ValueError unless every side is a positive multiple of `multiple`."""
        if any(side < self.multiple or side % self.multiple for side in sides):
            raise ValueError(f"an enhancer takes faces whose sides are multiples of {self.multiple}, not {sides}")


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
        widths, blocks, detail = self.config.widths, self.config.blocks, self.config.detail
        steps = list(pairwise(widths))  # (finer, coarser) neighbours
        self.stem = nn.Conv2d(3 * _FOLD**2, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_units(*level) for level in zip(widths, blocks, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in steps)
        # One pixel shuffle per level on the way up: cheaper than a transposed convolution, no overlaps.
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine * 4, 1) for fine, coarse in steps)
        self.decoders = nn.ModuleList(_units(*level) for level in zip(widths[:-1], blocks[:-1], strict=True))
        self.up_detail = nn.Conv2d(widths[0], detail * _FOLD**2, 3, padding=1)
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

        Raises ValueError when H or W is not a multiple of `config.multiple`.
        """
        self.config.check_sides(*faces.shape[-2:])
        features = self.encoders[0](self.stem(functional.pixel_unshuffle(faces, _FOLD)))
        passed = []
        for down, encoder in zip(self.downs, self.encoders[1:], strict=True):
            passed.append(features)
            features = encoder(down(features))
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            features = decoder(passed.pop() + functional.pixel_shuffle(up(features), 2))
        detail = functional.pixel_shuffle(functional.leaky_relu(self.up_detail(features), _SLOPE), _FOLD)
        detail = functional.leaky_relu(self.refine(torch.cat((detail, faces), dim=1)), _SLOPE)
        return enlarge(faces) + functional.pixel_shuffle(self.to_rgb(detail), SCALE)
