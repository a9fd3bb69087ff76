"""What both versions of VQFR are made of, under the names their checkpoints use."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from operators.enhance.architecture import State
from operators.enhance.layout import children, count, side

_GROUPS = 32


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels, eps=1e-6)


class Residual(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))); where the channels change, x goes through a 1 x 1 convolution that is
    called `shortcut`."""

    def __init__(self, inputs: int, outputs: int, shortcut: str) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = group_norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = shortcut if inputs != outputs else ""
        if self.shortcut:
            self.add_module(shortcut, nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv1(functional.silu(self.norm1(x)))
        residual = self.conv2(functional.silu(self.norm2(residual)))
        kept = self.get_submodule(self.shortcut)(x) if self.shortcut else x
        return kept + residual


class Attention(nn.Module):
    """x + attention of every place to every other, in one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        query, key, value = (part(normed).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        seen = functional.scaled_dot_product_attention(query, key, value)
        attended: Tensor = x + self.proj_out(seen.transpose(1, 2).reshape(x.shape))
        return attended


class Halve(nn.Module):
    """A convolution of stride 2 whose border lies at the right and the bottom alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return halved


class Double(nn.Module):
    """Each pixel four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, without a filter against aliasing."""
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def sequence(state: State, name: str, shortcut: str, resample: type[Halve] | type[Double] = Halve) -> nn.Sequential:
    """The list of residual blocks, attentions and `resample` that a checkpoint has under `name`, told by their keys.

    Raises ValueError where tensors are missing.
    """
    return nn.Sequential(
        *(_member(state, f"{name}.{index}", shortcut, resample) for index in range(count(state, name)))
    )


def _member(state: State, name: str, shortcut: str, resample: type[Halve] | type[Double]) -> nn.Module:
    parts = children(state, name)
    if "q" in parts:
        return Attention(side(state, f"{name}.q.weight"))
    if "conv" in parts:
        return resample(side(state, f"{name}.conv.weight"))
    return residual(state, name, shortcut)


def residual(state: State, name: str, shortcut: str) -> Residual:
    """The residual block called `name`. Raises ValueError."""
    weight = f"{name}.conv1.weight"
    return Residual(side(state, weight, 1), side(state, weight), shortcut)


def convolution(state: State, name: str) -> nn.Conv2d:
    """The plain convolution called `name`, its size kept. Raises ValueError."""
    weight = f"{name}.weight"
    kernel = side(state, weight, 2)
    return nn.Conv2d(side(state, weight, 1), side(state, weight), kernel, padding=kernel // 2)


class Codebook(nn.Module):
    """The words a face is told in."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        codes = f"{name}.embedding.weight"
        self.embedding = nn.Embedding(side(state, codes), side(state, codes, 1))

    def nearest(self, features: Tensor) -> Tensor:
        """The number of the code nearest to each place's features: (B, C, H, W) -> (B, H, W)."""
        places, codes = features.movedim(1, -1), self.embedding.weight
        # the square of a place's own features is the same for every code
        distances = codes.square().sum(1) - 2 * places @ codes.T
        return distances.argmin(-1)

    def looked_up(self, chosen: Tensor) -> Tensor:
        """(B, H, W) numbers -> (B, C, H, W) codes."""
        found: Tensor = self.embedding(chosen)
        return found.movedim(-1, 1).contiguous(memory_format=torch.channels_last)
