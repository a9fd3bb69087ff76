"""GPEN as published: an encoder's features steer a StyleGAN2 generator, in place of its noise.

Yang et al., "GAN Prior Embedded Network for Blind Face Restoration in the Wild", CVPR 2021, arXiv 2105.06070. Nothing
is drawn by chance: where StyleGAN2 adds noise, GPEN joins what its encoder found at that size. Its publishers state no
licence for code or weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.architecture import Architecture, State
from operators.enhance.contract import EnhancerDescriptor, Identity, Options
from operators.enhance.layout import count, placed, side
from operators.enhance.stylegan2 import Activation, Convolution, Enlarge, Linear, Modulated, PixelNorm, Smooth

NAME = "GPEN"

_COARSEST = 4  # px
_RATE = 0.01  # of the network that maps styles, against the others'
_GPU_BATCH = 8
_BYTES_PER_PIXEL = 3_120  # measured at 512 px on a CPU, weights left out


@dataclass(frozen=True)
class Sizes:
    """channels: at 4, 8, 16, ... px; style: numbers in a style; mappings: layers that map it."""

    channels: Sequence[int]
    style: int
    mappings: int

    @property
    def size(self) -> int:
        """Side of a face in pixels."""
        return _COARSEST << (len(self.channels) - 1)


class Noise(nn.Module):
    """Joins to the features as many of the encoder, weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor, encoded: Tensor) -> Tensor:
        return torch.cat((x, self.weight * encoded), dim=1)


class Styled(nn.Module):
    """A modulated convolution, joined by the encoder's features."""

    def __init__(self, inputs: int, outputs: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = Modulated(inputs, outputs, 3, style, up=up)
        self.noise = Noise()
        self.activate = Activation(2 * outputs)

    def forward(self, x: Tensor, style: Tensor, encoded: Tensor) -> Tensor:
        joined: Tensor = self.activate(self.noise(self.conv(x, style), encoded))
        return joined


class ToRGB(nn.Module):
    """Features to a picture, added to the enlarged picture of the coarser level."""

    def __init__(self, inputs: int, style: int, *, first: bool = False) -> None:
        super().__init__()
        self.conv = Modulated(inputs, 3, 1, style, normed=False)
        self.bias = nn.Parameter(torch.empty(1, 3, 1, 1))
        self.upsample = None if first else Enlarge()

    def forward(self, x: Tensor, style: Tensor, picture: Tensor | None = None) -> Tensor:
        made: Tensor = self.conv(x, style) + self.bias
        return made if self.upsample is None else made + self.upsample(picture)


class Generator(nn.Module):
    """StyleGAN2's, twice as wide: half of every feature is the encoder's."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        style, coarsest = sizes.style, sizes.channels[0]
        mapping = (Linear(style, style, rate=_RATE, active=True) for _ in range(sizes.mappings))
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = nn.ParameterDict({"input": torch.empty(1, coarsest, _COARSEST, _COARSEST)})
        self.conv1 = Styled(coarsest, coarsest, style)
        self.to_rgb1 = ToRGB(2 * coarsest, style, first=True)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for coarse, fine in pairwise(sizes.channels):
            self.convs.append(Styled(2 * coarse, fine, style, up=True))
            self.convs.append(Styled(2 * fine, fine, style))
            self.to_rgbs.append(ToRGB(2 * fine, style))

    def forward(self, style: Tensor, encoded: Sequence[Tensor]) -> Tensor:
        """style: (B, style), not mapped yet; encoded: the encoder's features, the coarsest first."""
        style = self.style(style)
        x = self.conv1(self.input["input"].expand(len(style), -1, -1, -1), style, encoded[0])
        picture: Tensor = self.to_rgb1(x, style)
        for level, features in enumerate(encoded[1:]):
            x = self.convs[2 * level](x, style, features)
            x = self.convs[2 * level + 1](x, style, features)
            picture = self.to_rgbs[level](x, style, picture)
        return picture


class GPEN(nn.Module):
    """(B, 3, size, size) RGB in [-1, 1] -> the same shape, about [-1, 1] and not clamped."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        fine_first = list(reversed(sizes.channels))
        stem = nn.Sequential(Convolution(3, fine_first[0], 1), Activation(fine_first[0]))
        encoder: list[nn.Module] = [stem]
        for fine, coarse in pairwise(fine_first):
            encoder.append(nn.Sequential(Smooth(2), Convolution(fine, coarse, 3, stride=2), Activation(coarse)))
        self.levels = len(encoder)
        for level, part in enumerate(encoder):
            self.add_module(f"ecd{level}", nn.Sequential(part))
        flat = sizes.channels[0] * _COARSEST**2
        self.final_linear = nn.Sequential(Linear(flat, sizes.style, active=True))
        self.generator = Generator(sizes)

    def forward(self, faces: Tensor) -> Tensor:
        x, encoded = faces, []
        for level in range(self.levels):
            x = self.get_submodule(f"ecd{level}")(x)
            encoded.append(x)
        restored: Tensor = self.generator(self.final_linear(x.flatten(1)), encoded[::-1])
        return restored


def network_of(state: State) -> tuple[GPEN, Sizes]:
    """The network of a published state dict, its sizes read off the tensors.

    Raises ValueError and RuntimeError where keys and shapes do not make one up.
    """
    # modulated weights are published with a dimension for the faces of a batch, which all share one weight here
    state = {key: value.squeeze(0) if value.ndim == 5 else value for key, value in state.items()}
    stages = count(state, "generator.to_rgbs")
    channels = [side(state, "generator.conv1.conv.weight")]
    channels += [side(state, f"generator.convs.{2 * stage}.conv.weight") for stage in range(stages)]
    encoders = len({name for key in state if (name := key.split(".")[0]).startswith("ecd")})
    if encoders != len(channels):
        raise ValueError(f"it takes faces of {_COARSEST << (encoders - 1)} px and returns {_COARSEST << stages} px")
    sizes = Sizes(channels, side(state, "final_linear.0.weight"), count(state, "generator.style") - 1)
    return placed(lambda: GPEN(sizes), state), sizes


def _recognises(state: State) -> bool:
    return "ecd0.0.0.weight" in state and "generator.to_rgb1.conv.weight" in state


def _build(state: State, identity: Identity, device: torch.device, options: Options) -> NetworkEnhancer:
    network, sizes = network_of(state)
    descriptor = EnhancerDescriptor.keeping_size(
        identity, NAME, sizes.size, precisions=("float32", "bfloat16"), memory=_BYTES_PER_PIXEL * sizes.size**2
    )
    return NetworkEnhancer(network, descriptor, device, options=options, gpu_batch=_GPU_BATCH)


ARCHITECTURE = Architecture(NAME, _recognises, _build)
"""Of any size. Checkpoints of the same network for other work (colourisation, inpainting, faces from segmentations)
have the same keys: only who names the file can tell."""
