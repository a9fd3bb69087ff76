"""SPARNetHD as published: residual blocks weighed by maps of spatial attention, 512 px in and out.

Chen et al., "Learning Spatial Attention for Face Super-Resolution", IEEE TIP 2021, arXiv 2012.01211. Its weights are
under CC-BY-NC-SA-4.0. `operators.enhance.network` has a small one of this kind, trained here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.architecture import Architecture, State
from operators.enhance.contract import EnhancerDescriptor, Identity, Options
from operators.enhance.layout import children, count, placed, side, tensor

NAME = "SPARNetHD"

_BOTTOM = 32  # px that the coarsest features are across, whatever the number of halvings; no tensor tells it
_SLOPE = 0.2  # of the leaky ReLU below zero
_GPU_BATCH = 8
_BYTES_PER_PIXEL = 3_120  # measured at 512 px on a CPU, weights left out

Scale = Literal["down", "same", "up"]


@dataclass(frozen=True)
class Block:
    """Sizes of one residual block. inputs, outputs: channels; depth: halvings inside its attention; inner: channels
    there; maps: attention maps, one for all channels or one for each."""

    inputs: int
    outputs: int
    depth: int
    inner: int
    maps: int


def _norm(channels: int) -> nn.Module:
    return nn.Sequential(OrderedDict(norm=nn.InstanceNorm2d(channels, affine=True)))


class Convolution(nn.Module):
    """3 x 3 with mirrored borders; with `norm`, an instance norm and, unless `linear`, a leaky ReLU follow."""

    def __init__(self, inputs: int, outputs: int, scale: Scale = "same", *, norm: bool = True, linear: bool = False):
        super().__init__()
        self.scale = scale
        self.linear = linear or not norm
        stride = 2 if scale == "down" else 1
        self.conv2d = nn.Conv2d(inputs, outputs, 3, stride, padding=1, padding_mode="reflect", bias=not norm)
        self.norm = _norm(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == "up":
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.norm(self.conv2d(x))
        return x if self.linear else functional.leaky_relu(x, _SLOPE)


class Attention(nn.Module):
    """An hourglass that multiplies features by maps in (0, 1): `depth` times half the size, and back."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.depth, inner = block.depth, block.inner
        for level in range(1, block.depth + 1):
            inputs = block.outputs if level == block.depth else inner
            self.add_module(f"b1_{level}", Convolution(inputs, inner))
            self.add_module(f"b2_{level}", Convolution(inputs, inner, "down"))
            self.add_module(f"b3_{level}", Convolution(inner, inner, "up"))
        self.b2_plus_1 = Convolution(inner, inner)
        self.out_block = nn.Sequential(Convolution(inner, block.maps, norm=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) with H and W multiples of 2^depth -> the same shape."""
        weighed: Tensor = x * self.out_block(self._level(self.depth, x))
        return weighed

    def _level(self, level: int, x: Tensor) -> Tensor:
        beside = self.get_submodule(f"b1_{level}")(x)
        coarse = self.get_submodule(f"b2_{level}")(x)
        coarse = self._level(level - 1, coarse) if level > 1 else self.b2_plus_1(coarse)
        back: Tensor = self.get_submodule(f"b3_{level}")(coarse)
        return beside + back


class Residual(nn.Module):
    """shortcut(x) + attention(conv(conv(act(norm(x)))))."""

    def __init__(self, block: Block, scale: Scale) -> None:
        super().__init__()
        inputs, outputs = block.inputs, block.outputs
        kept = scale == "same" and inputs == outputs
        self.shortcut_func = nn.Identity() if kept else Convolution(inputs, outputs, scale, norm=False)
        self.preact_func = nn.Sequential(_norm(inputs), nn.LeakyReLU(_SLOPE))
        self.conv1 = Convolution(inputs, outputs, "up" if scale == "up" else "same")
        self.conv2 = Convolution(outputs, outputs, "down" if scale == "down" else "same", linear=True)
        self.att_func = Attention(block)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv2(self.conv1(self.preact_func(x)))
        enhanced: Tensor = self.shortcut_func(x) + self.att_func(residual)
        return enhanced


class SPARNetHD(nn.Module):
    """(B, 3, H, W) RGB in [-1, 1] -> the same shape, about [-1, 1] and not clamped."""

    def __init__(self, down: Sequence[Block], body: Sequence[Block], up: Sequence[Block]) -> None:
        super().__init__()
        stem = Convolution(3, down[0].inputs, norm=False)
        self.encoder = nn.Sequential(stem, *(Residual(block, "down") for block in down))
        self.res_layers = nn.Sequential(*(Residual(block, "same") for block in body))
        self.decoder = nn.Sequential(*(Residual(block, "up") for block in up))
        self.out_conv = Convolution(up[-1].outputs, 3, norm=False)

    def forward(self, faces: Tensor) -> Tensor:
        enhanced: Tensor = self.out_conv(self.decoder(self.res_layers(self.encoder(faces))))
        return enhanced


def fold(state: State) -> dict[str, Tensor]:
    """The state dict with each ``weight_orig`` divided by its spectral norm u^T W v, as training left u and v.

    W: the weight as a matrix of one row per output. Weights that were folded before stay as they are.
    """
    folded = {}
    for key, value in state.items():
        if key.endswith(".weight_orig"):
            left, right = (tensor(state, key.replace("weight_orig", part)) for part in ("weight_u", "weight_v"))
            spectral = left.double() @ (value.double().flatten(1) @ right.double())
            folded[key.removesuffix("_orig")] = (value.double() / spectral).float()
        elif not key.endswith((".weight_u", ".weight_v")):
            folded[key] = value
    return folded


def network_of(state: State) -> SPARNetHD:
    """The network of a published state dict, its sizes read off the tensors, its spectral norm folded.

    Raises ValueError and RuntimeError where keys and shapes do not make one up.
    """
    if any(key.endswith(".running_mean") for key in state):
        raise ValueError("it has batch norms, as SPARNet for 128 px has; SPARNetHD has instance norms")
    state = fold(state)
    down = [_block(state, f"encoder.{index}") for index in range(1, count(state, "encoder"))]
    body = [_block(state, f"res_layers.{index}") for index in range(count(state, "res_layers"))]
    up = [_block(state, f"decoder.{index}") for index in range(count(state, "decoder"))]
    if not down or len(down) != len(up):
        raise ValueError(f"it halves faces {len(down)} times and doubles them {len(up)} times")
    return placed(lambda: SPARNetHD(down, body, up), state)


def _block(state: State, name: str) -> Block:
    first = f"{name}.conv1.conv2d.weight"
    depth = sum(child.startswith("b1_") for child in children(state, f"{name}.att_func"))
    inner = side(state, f"{name}.att_func.b1_{depth}.conv2d.weight")
    maps = side(state, f"{name}.att_func.out_block.0.conv2d.weight")
    return Block(side(state, first, 1), side(state, first), depth, inner, maps)


def _recognises(state: State) -> bool:
    stem = "encoder.0.conv2d.weight"
    return (stem in state or f"{stem}_orig" in state) and "encoder.1.att_func.out_block.0.conv2d.bias" in state


def _build(state: State, identity: Identity, device: torch.device, options: Options) -> NetworkEnhancer:
    network = network_of(state)
    size = _BOTTOM << len(network.decoder)
    descriptor = EnhancerDescriptor.keeping_size(
        identity, NAME, size, precisions=("float32", "bfloat16"), memory=_BYTES_PER_PIXEL * size * size
    )
    return NetworkEnhancer(network, descriptor, device, options=options, gpu_batch=_GPU_BATCH)


ARCHITECTURE = Architecture(NAME, _recognises, _build)
"""Recognised by its encoder's blocks of attention; the file may hold spectral norms or weights that were folded."""
