"""A small one-shot, anchor-free face network: per cell a score, a box and five landmarks.

Depthwise-separable residual backbone to stride 32, a top-down feature pyramid, and heads at the two
finest strides only. Larger faces are the image pyramid's business (`builtin.py`): one set of weights sees
every face within about one octave and a half of sizes, which a few hundred training faces suffice for.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDES = (8, 16)
"""Pixels per cell of the two output grids."""

CHANNELS_OUT = 1 + 4 + 10
"""Score logit, box (dx, dy, log w, log h), landmarks (x, y) of five points."""

BASE = 4.0
"""Unit of the regressions in strides: box and landmarks are expressed in `BASE * stride` pixels."""


@dataclass(frozen=True)
class NetworkConfig:
    """Widths of the backbone at strides 2, 4, 8, 16, 32, residual blocks at strides 4 to 32, neck width."""

    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 160)
    blocks: tuple[int, int, int, int] = (1, 3, 4, 2)
    neck: int = 96
    head_blocks: int = 2

    def to_json(self) -> dict[str, Any]:
        """Plain types, for the description in a weights file."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> NetworkConfig:
        """The inverse of `to_json`; TypeError when a field is not one of ours."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        return cls(**plain)


def convolution(into: int, out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the resolution but for its stride, and batch normalisation."""
    return nn.Sequential(nn.Conv2d(into, out, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(out))


class SeparableBlock(nn.Module):
    """x + pointwise(relu(depthwise(x))), each followed by batch normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = convolution(channels, channels, 3, groups=channels)
        self.pointwise = convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.pointwise(F.relu(self.depthwise(x))))


class Stage(nn.Sequential):
    """Halves the resolution, then `blocks` residual blocks."""

    def __init__(self, into: int, out: int, blocks: int) -> None:
        super().__init__(convolution(into, out, 3, stride=2), nn.ReLU(), *(SeparableBlock(out) for _ in range(blocks)))


class FaceNetwork(nn.Module):
    """(B, 3, H, W) float32 in [-1, 1], H and W multiples of 32 -> one raw map per stride of `STRIDES`,
    each (B, 15, H / stride, W / stride); `decode` gives them their meaning.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetworkConfig()
        widths, blocks, neck = self.config.widths, self.config.blocks, self.config.neck
        self.stem = nn.Sequential(convolution(3, widths[0], 3, stride=2), nn.ReLU())
        self.stages = nn.ModuleList(
            Stage(into, out, count) for into, out, count in zip(widths, widths[1:], blocks, strict=False)
        )
        self.lateral = nn.ModuleList(convolution(width, neck, 1) for width in widths[2:])
        self.smooth = nn.ModuleList(SeparableBlock(neck) for _ in STRIDES)
        self.head = nn.Sequential(*(SeparableBlock(neck) for _ in range(self.config.head_blocks)))
        self.out = nn.Conv2d(neck, CHANNELS_OUT, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        # A face is rare: start at a probability of 1 % so that the first steps are not all background.
        bias = torch.zeros(CHANNELS_OUT)
        bias[0] = -4.6
        self.out.bias = nn.Parameter(bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        fine, middle, coarse = (lateral(feature) for lateral, feature in zip(self.lateral, features[1:], strict=True))
        middle = self.smooth[1](middle + F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        fine = self.smooth[0](fine + F.interpolate(middle, scale_factor=2.0, mode="nearest"))
        return [self.out(self.head(feature)) for feature in (fine, middle)]


Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """A copy for inference: evaluation mode, every batch normalisation folded into the convolution before it."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential) and len(module) >= 2:
            convolution, normalisation = module[0], module[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    return network


def cell_centres(height: int, width: int, stride: int, device: torch.device | str = "cpu") -> Tensor:
    """(height, width, 2) float32: (x, y) of each cell's centre in input pixels, pixel centres at integers."""
    ys = torch.arange(height, device=device, dtype=torch.float32) * stride + (stride - 1) / 2
    xs = torch.arange(width, device=device, dtype=torch.float32) * stride + (stride - 1) / 2
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)


def decode(output: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Raw map (B, 15, h, w) of one stride -> score logits (B, h, w), boxes (B, h, w, 4) as
    (x0, y0, x1, y1) and landmarks (B, h, w, 5, 2), both in input pixels."""
    maps = output.permute(0, 2, 3, 1).float()
    unit = BASE * stride
    centres = cell_centres(maps.shape[1], maps.shape[2], stride, output.device)
    middle = centres + maps[..., 1:3] * unit
    # exp is bounded: a size beyond 16 units is no face of this stride, and an overflow would poison training.
    half = torch.exp(maps[..., 3:5].clamp(-4.0, 2.77)) * (unit / 2)
    boxes = torch.cat([middle - half, middle + half], dim=-1)
    landmarks = centres[:, :, None, :] + maps[..., 5:].unflatten(-1, (5, 2)) * unit
    return maps[..., 0], boxes, landmarks
