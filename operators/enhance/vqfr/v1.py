"""VQFR version 1: textures from a codebook of faces, warped onto the degraded face by a second decoder.

Gu et al., "VQFR: Blind Face Restoration with Vector-Quantized Dictionary and Parallel Decoder", ECCV 2022,
arXiv 2205.06803.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from operators.enhance.architecture import State
from operators.enhance.layout import children, placed, side
from operators.enhance.vqfr.blocks import (
    Codebook,
    convolution,
    group_norm,
    residual,
    resized,
    sequence,
)
from operators.enhance.vqfr.warp import level_name, warps

_SHORTCUT = "shortcut_conv"


class Resize(nn.Module):
    """Bilinear to half the size before a convolution, or to twice the size after one."""

    def __init__(self, conv: nn.Conv2d, *, up: bool) -> None:
        super().__init__()
        self.conv, self.up = conv, up

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.up:
            return resized(self.conv(x), (2 * height, 2 * width))
        halved: Tensor = self.conv(resized(x, (height // 2, width // 2)))
        return halved


def _resizes(state: State, name: str, levels: range, *, up: bool) -> nn.ModuleDict:
    return nn.ModuleDict(
        {level_name(level): Resize(convolution(state, f"{name}.{level_name(level)}.conv"), up=up) for level in levels}
    )


def _blocks(state: State, name: str, levels: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {level_name(level): sequence(state, f"{name}.{level_name(level)}", _SHORTCUT) for level in range(levels)}
    )


class Encoder(nn.Module):
    def __init__(self, state: State, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.conv_in = convolution(state, "encoder.conv_in")
        self.encoder_dict = _blocks(state, "encoder.encoder_dict", levels)
        self.pre_downsample_dict = _resizes(state, "encoder.pre_downsample_dict", range(1, levels), up=False)
        last = level_name(levels - 1)
        conv = convolution(state, f"encoder.enc_convout_dict.{last}.2")
        self.enc_convout_dict = nn.ModuleDict({last: nn.Sequential(group_norm(conv.in_channels), nn.SiLU(), conv)})

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> features after all halvings."""
        x = self.conv_in(x)
        for level in map(level_name, range(self.levels)):
            if level in self.pre_downsample_dict:
                x = self.pre_downsample_dict[level](x)
            x = self.encoder_dict[level](x)
        encoded: Tensor = self.enc_convout_dict[level_name(self.levels - 1)](x)
        return encoded


class Quantizer(Codebook):
    """Features -> the nearest codes."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__(state, name)
        self.quant_conv = convolution(state, f"{name}.quant_conv")
        self.post_quant_conv = convolution(state, f"{name}.post_quant_conv")

    def forward(self, features: Tensor) -> Tensor:
        chosen = self.nearest(self.quant_conv(features))
        quantized: Tensor = self.post_quant_conv(self.looked_up(chosen))
        return quantized


class TextureDecoder(nn.Module):
    """Codes -> features of a face at every level. `conv_out`, which would make a picture of them, is not used."""

    def __init__(self, state: State, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.decoder_dict = _blocks(state, "decoder.decoder_dict", levels)
        self.pre_upsample_dict = _resizes(state, "decoder.pre_upsample_dict", range(levels - 1), up=True)
        conv = convolution(state, "decoder.conv_out.2")
        self.conv_out = nn.Sequential(group_norm(conv.in_channels), nn.SiLU(), conv)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features, the coarsest first."""
        features = []
        for level in map(level_name, reversed(range(self.levels))):
            if level in self.pre_upsample_dict:
                x = self.pre_upsample_dict[level](x)
            x = self.decoder_dict[level](x)
            features.append(x)
        return features


class MainDecoder(nn.Module):
    """Textures, warped onto the face and refined from level to level."""

    def __init__(self, state: State, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.decoder_dict = nn.ModuleDict(
            {
                level_name(level): residual(state, f"main_decoder.decoder_dict.{level_name(level)}", _SHORTCUT)
                for level in range(levels - 1)
            }
        )
        self.pre_upsample_dict = _resizes(state, "main_decoder.pre_upsample_dict", range(levels - 1), up=True)
        self.align_func_dict = warps(state, "main_decoder.align_func_dict", levels)
        self.conv_out_1 = nn.Sequential(group_norm(side(state, "main_decoder.conv_out_1.0.weight")), nn.SiLU())
        self.conv_out = nn.Sequential(convolution(state, "main_decoder.conv_out.0"))

    def forward(self, textures: list[Tensor], shown: Tensor, faces: Tensor) -> Tensor:
        """textures: the coarsest first; shown: features of the degraded faces; faces: these themselves."""
        x, guide = self.align_func_dict[level_name(self.levels - 1)](textures[0], shown, None)
        for level, texture in zip(map(level_name, reversed(range(self.levels - 1))), textures[1:], strict=True):
            warped, guide = self.align_func_dict[level](texture, shown, guide)
            x = self.decoder_dict[level](torch.cat((self.pre_upsample_dict[level](x), warped), dim=1))
        restored: Tensor = self.conv_out(torch.cat((self.conv_out_1(x), faces), dim=1))
        return restored


class VQFRv1(nn.Module):
    """(B, 3, H, W) RGB in [-1, 1] -> the same shape, about [-1, 1] and not clamped."""

    def __init__(self, state: State, levels: int) -> None:
        super().__init__()
        self.inpfeat_extraction = nn.Sequential(OrderedDict(conv=convolution(state, "inpfeat_extraction.conv")))
        self.encoder = Encoder(state, levels)
        last = level_name(levels - 1)
        quantizer = nn.Sequential(OrderedDict({last: Quantizer(state, f"quantizer.quantize_dict.{last}")}))
        self.quantizer = nn.Sequential(OrderedDict(quantize_dict=quantizer))
        self.decoder = TextureDecoder(state, levels)
        self.main_decoder = MainDecoder(state, levels)

    def forward(self, faces: Tensor) -> Tensor:
        # A rounded distance may be nearest to another code, which is another texture: codes are chosen in float32.
        with torch.autocast(faces.device.type, enabled=False):
            codes = self.quantizer(self.encoder(faces))
        restored: Tensor = self.main_decoder(self.decoder(codes), self.inpfeat_extraction(faces), faces)
        return restored


def network_of(state: State) -> tuple[VQFRv1, int]:
    """The network of a published state dict, its sizes read off the tensors, and how many times it halves faces.

    Raises ValueError and RuntimeError where keys and shapes do not make one up.
    """
    levels = len(children(state, "encoder.encoder_dict"))
    return placed(lambda: VQFRv1(state, levels), state), levels - 1
