"""Layers of StyleGAN2 in plain PyTorch, under the names that checkpoints of its PyTorch version use.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, arXiv 1912.04958. Weights are kept as
drawn and scaled when they are used ("equalized learning rate").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

_SLOPE = 0.2
_EPSILON = 1e-8
_TAPS = 4  # along a side of the filters that smooth before and after a change of size


def activated(x: Tensor, bias: Tensor) -> Tensor:
    """Leaky ReLU of x + bias, times sqrt(2), which keeps the variance. x: (B, C, ...); bias: (C,)."""
    shaped = bias.view(-1, *([1] * (x.ndim - 2)))
    return functional.leaky_relu(x + shaped, _SLOPE) * math.sqrt(2.0)


class Activation(nn.Module):
    """:func:`activated` with a bias of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return activated(x, self.bias)


class PixelNorm(nn.Module):
    """Each vector divided by its root mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + _EPSILON)


class Linear(nn.Module):
    """rate: by how much less it learns than others, and with `active` a leaky ReLU follows."""

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, active: bool = False) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(outputs, inputs)), nn.Parameter(torch.empty(outputs))
        self.rate, self.scale, self.active = rate, rate / math.sqrt(inputs), active

    def forward(self, x: Tensor) -> Tensor:
        x = functional.linear(x, self.weight * self.scale)
        return activated(x, self.bias * self.rate) if self.active else x + self.bias * self.rate


class Convolution(nn.Module):
    """Without a bias; `stride` 2 has no border, for what was smoothed with one."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.scale = 1.0 / math.sqrt(inputs * kernel**2)
        self.stride, self.padding = stride, kernel // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)


class Smooth(nn.Module):
    """Each channel through the checkpoint's 4 x 4 filter, after `border` pixels of zeros on every side."""

    def __init__(self, border: int) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.empty(_TAPS, _TAPS))
        self.kernel: Tensor
        self.border = border

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + 2 border - 3, W + 2 border - 3)."""
        channels = x.shape[1]
        # PyTorch's convolution is a correlation: the filter is turned round
        taps = self.kernel.flip(0, 1).expand(channels, 1, _TAPS, _TAPS)
        return functional.conv2d(x, taps, padding=self.border, groups=channels)


class Enlarge(nn.Module):
    """Twice the size: zeros between the pixels, then the checkpoint's 4 x 4 filter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.empty(_TAPS, _TAPS))
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = self.kernel.expand(channels, 1, _TAPS, _TAPS)
        return functional.conv_transpose2d(x, taps, stride=2, padding=1, groups=channels)


class Modulated(nn.Module):
    """A convolution whose weights a style scales, input channel by input channel.

    With w' = w s, each output channel is divided by ||w'||, so that its variance does not hang on the style. Scaling
    the input by s and the output by 1 / ||w s|| is the same, and shares one weight among the faces of a batch.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, normed: bool = True, up: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.modulation = Linear(style, inputs)
        self.scale, self.padding, self.normed = 1.0 / math.sqrt(inputs * kernel**2), kernel // 2, normed
        self.blur = Smooth(1) if up else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x: (B, inputs, H, W); style: (B, style) -> (B, outputs, H, W), or twice the size with `up`."""
        scales = self.modulation(style)
        weight = self.weight * self.scale
        x = x * scales[:, :, None, None]
        if self.blur is None:
            x = functional.conv2d(x, weight, padding=self.padding)
        else:
            x = self.blur(functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if self.normed:
            energy = functional.linear(scales.float().square(), weight.square().sum(dim=(2, 3)))
            x = x * torch.rsqrt(energy + _EPSILON)[:, :, None, None]
        return x
