"""VQFR's texture warping: decoded textures moved to where the degraded face has them."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from operators.enhance.architecture import State
from operators.enhance.layout import children, side
from operators.enhance.vqfr.blocks import group_norm, resized

_TAPS = 9  # of a 3 x 3 kernel; each has two offsets and a weight


class Deformable(nn.Module):
    """A 3 x 3 convolution whose taps lie and weigh as `guide` says (deformable convolution, version 2)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(channels))
        self.conv_offset = nn.Conv2d(channels, groups * 3 * _TAPS, 3, padding=1)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        offsets = self.conv_offset(guide)
        places = 2 * offsets.shape[1] // 3
        from torchvision.ops import deform_conv2d  # three seconds, which workers without VQFR should not spend

        # contiguous and in float32, as the kernel reads them
        offset, mask = offsets[:, :places].float().contiguous(), offsets[:, places:].float().sigmoid().contiguous()
        with torch.autocast(x.device.type, enabled=False):
            return deform_conv2d(x.float().contiguous(), offset, self.weight, self.bias, padding=1, mask=mask)


class Warp(nn.Module):
    """Textures of one level, warped by what the degraded face shows there and by the offsets of the coarser level."""

    def __init__(self, channels: int, shown: int, before: int, groups: int, *, halvings: int, convolved: bool) -> None:
        """channels: of the textures; shown: of the degraded face's features; before: of the coarser level's offsets, 0
        at the coarsest; groups: of channels that move together; halvings: of the face's size down to this level;
        convolved: whether these features go through a convolution when they are made smaller."""
        super().__init__()
        self.halvings = halvings
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if convolved:
            parts["conv"] = nn.Conv2d(shown, shown, 3, padding=1)
        self.downsample = nn.Sequential(parts)
        self.offset_conv1 = nn.Sequential(
            nn.Conv2d(channels + shown, channels, 1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )
        self.offset_conv2 = nn.Sequential(
            nn.Conv2d(channels + before, channels, 3, padding=1), group_norm(channels), nn.SiLU()
        )
        self.dcn = Deformable(channels, groups)

    def forward(self, textures: Tensor, face: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """textures: (B, channels, H, W); face: (B, shown, H 2^halvings, W 2^halvings); before: (B, before, H/2, W/2).

        Returns the warped textures, and the guide of the offsets for the next level.
        """
        if self.halvings:
            face = resized(face, (face.shape[-2] >> self.halvings, face.shape[-1] >> self.halvings))
        guide = self.offset_conv1(torch.cat((self.downsample(face), textures), dim=1))
        if before is not None:
            # an offset in pixels is twice as many where pixels are half as large
            doubled = functional.interpolate(before, scale_factor=2.0, mode="bilinear", align_corners=False) * 2
            guide = torch.cat((guide, doubled), dim=1)
        guide = self.offset_conv2(guide)
        return self.dcn(textures, guide), guide


def warps(state: State, name: str, levels: int) -> nn.ModuleDict:
    """The warping modules of all levels, the finest first, as a checkpoint has them under `name`. Raises ValueError."""
    return nn.ModuleDict(
        {level_name(level): _warp(state, f"{name}.{level_name(level)}", level) for level in range(levels)}
    )


def _warp(state: State, name: str, level: int) -> Warp:
    channels = side(state, f"{name}.dcn.weight")
    return Warp(
        channels,
        side(state, f"{name}.offset_conv1.0.weight", 1) - channels,
        side(state, f"{name}.offset_conv2.0.weight", 1) - channels,
        side(state, f"{name}.dcn.conv_offset.weight") // (3 * _TAPS),
        halvings=level,
        convolved="downsample" in children(state, name),
    )


def level_name(level: int) -> str:
    """What the checkpoints call the level after so many halvings."""
    return f"Level_{2**level}"
