"""VQFR version 2: the codes are predicted, and how much of the warped branch is added is left to the user.

Of the authors of version 1 (`operators.enhance.vqfr.v1`), who published it with their code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from operators.enhance.architecture import State
from operators.enhance.layout import children, count, placed
from operators.enhance.vqfr.blocks import (
    Codebook,
    Double,
    Halve,
    convolution,
    group_norm,
    residual,
    sequence,
)
from operators.enhance.vqfr.warp import level_name, warps

_SHORTCUT = "residual_func"


def _out(state: State, name: str) -> nn.Sequential:
    conv = convolution(state, f"{name}.2")
    return nn.Sequential(group_norm(conv.in_channels), nn.SiLU(), conv)


class Encoder(nn.Module):
    def __init__(self, state: State) -> None:
        super().__init__()
        levels = range(count(state, "encoder.blocks"))
        self.conv_in = convolution(state, "encoder.conv_in")
        self.blocks = nn.Sequential(*(sequence(state, f"encoder.blocks.{level}", _SHORTCUT, Halve) for level in levels))
        self.mid_blocks = sequence(state, "encoder.mid_blocks", _SHORTCUT)
        self.conv_out = _out(state, "encoder.conv_out")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> features after all halvings."""
        encoded: Tensor = self.conv_out(self.mid_blocks(self.blocks(self.conv_in(x))))
        return encoded


class TextureDecoder(nn.Module):
    """Codes -> features of a face at every level; `conv_out` makes a picture of the finest."""

    def __init__(self, state: State) -> None:
        super().__init__()
        levels = range(count(state, "decoder.blocks"))
        self.conv_in = convolution(state, "decoder.conv_in")
        self.mid_blocks = sequence(state, "decoder.mid_blocks", _SHORTCUT)
        self.blocks = nn.ModuleList(sequence(state, f"decoder.blocks.{level}", _SHORTCUT, Double) for level in levels)
        self.conv_out = _out(state, "decoder.conv_out")

    def forward(self, codes: Tensor) -> list[Tensor]:
        """The features, the coarsest first."""
        x, features = self.mid_blocks(self.conv_in(codes)), []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features


class MainBranch(nn.Module):
    """Textures, warped onto the face and refined from level to level."""

    def __init__(self, state: State, levels: int) -> None:
        super().__init__()
        self.levels = levels
        finer = [level_name(level) for level in range(levels - 1)]
        self.decoder_dict = nn.ModuleDict(
            {level: residual(state, f"main_branch.decoder_dict.{level}", _SHORTCUT) for level in finer}
        )
        self.pre_upsample_dict = nn.ModuleDict(
            {
                level: nn.Sequential(
                    nn.Upsample(scale_factor=2.0, mode="nearest"),
                    convolution(state, f"main_branch.pre_upsample_dict.{level}.1"),
                )
                for level in finer
            }
        )
        self.align_func_dict = warps(state, "main_branch.align_func_dict", levels)

    def forward(self, textures: list[Tensor], shown: Tensor) -> Tensor:
        """textures: the coarsest first; shown: features of the degraded faces. Returns what to add to the finest."""
        x, guide = self.align_func_dict[level_name(self.levels - 1)](textures[0], shown, None)
        for level, texture in zip(map(level_name, reversed(range(self.levels - 1))), textures[1:], strict=True):
            warped, guide = self.align_func_dict[level](texture, shown, guide)
            x = self.decoder_dict[level](torch.cat((self.pre_upsample_dict[level](x), warped), dim=1))
        return x


class VQFRv2(nn.Module):
    """(B, 3, H, W) RGB in [-1, 1] -> the same shape, about [-1, 1] and not clamped."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.inpfeat_extraction = convolution(state, "inpfeat_extraction")
        self.encoder = Encoder(state)
        self.quantizer = Codebook(state, "quantizer")
        number, channels = self.quantizer.embedding.weight.shape
        predicted = bool(children(state, "feat2index"))
        self.feat2index = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, number)) if predicted else None
        self.decoder = TextureDecoder(state)
        self.main_branch = MainBranch(state, count(state, "encoder.blocks"))

    def forward(self, faces: Tensor, fidelity: float) -> Tensor:
        """fidelity: 0 for the textures alone, 1 for all that the degraded faces add to them."""
        # A rounded number may choose another code, which is another texture: codes are chosen in float32.
        with torch.autocast(faces.device.type, enabled=False):
            features = self.encoder(faces)
            codes = self.quantizer.looked_up(self._choose(features))
        textures = self.decoder(codes)
        finest = textures[-1]
        if fidelity:
            finest = finest + fidelity * self.main_branch(textures, self.inpfeat_extraction(faces))
        restored: Tensor = self.decoder.conv_out(finest)
        return restored

    def _choose(self, features: Tensor) -> Tensor:
        if self.feat2index is None:
            return self.quantizer.nearest(features)
        scores: Tensor = self.feat2index(features.movedim(1, -1))
        return scores.argmax(-1)


def network_of(state: State) -> tuple[VQFRv2, int]:
    """The network of a published state dict, its sizes read off the tensors, and how many times it halves faces.

    Raises ValueError and RuntimeError where keys and shapes do not make one up.
    """
    return placed(lambda: VQFRv2(state), state), count(state, "encoder.blocks") - 1
