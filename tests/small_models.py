"""Small models of every kind that a store may hold, with random weights that are the same each time."""

from __future__ import annotations

import zlib
from pathlib import Path

import torch
from torch import Tensor

from operators.dr2.checkpoints import save_prior
from operators.enhance.builtin import save_enhancer
from operators.enhance.network import FaceEnhancer, NetworkConfig

_CHANNELS = 64


def small_enhancer(
    path: Path, licence: str = "Apache-2.0", name: str = "small", size: int = 128, seed: int = 1
) -> Path:
    """A file as `dr2e train enhancer` writes one, for faces of `size` px."""
    torch.manual_seed(seed)
    config = NetworkConfig(widths=(8, 8), blocks=(1, 1), detail=4)
    network = FaceEnhancer(config)
    torch.nn.init.normal_(network.to_rgb.weight, std=0.01)
    save_enhancer(path, network.state_dict(), config, name=name, licence=licence, input_size=size, training={})
    return path


def small_prior(path: Path, size: int = 128) -> Path:
    """A file as `dr2e train prior` writes one."""
    from priors import untrained

    prior = untrained(size, 8, 1000)
    save_prior(path, prior.network, prior.spec, prior.schedule, name="untrained", licence="Apache-2.0")
    return path


def guided_diffusion(inputs: int = 3) -> dict[str, Tensor]:
    """The state dict of a U-Net in the guided-diffusion layout: two levels of 64 channels, attention at the coarser.

    Each tensor is drawn from its name.
    """
    state: dict[str, Tensor] = {}

    def draw(name: str, *shape: int) -> None:
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        values = torch.randn(shape, generator=generator) * 0.05
        state[name] = values + 1 if len(shape) == 1 and name.endswith("weight") else values

    def layer(name: str, *shape: int) -> None:
        draw(f"{name}.weight", *shape)
        draw(f"{name}.bias", shape[0])

    def block(name: str, channels: int) -> None:
        layer(f"{name}.in_layers.0", channels)
        layer(f"{name}.in_layers.2", _CHANNELS, channels, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * _CHANNELS, 4 * _CHANNELS)
        layer(f"{name}.out_layers.0", _CHANNELS)
        layer(f"{name}.out_layers.3", _CHANNELS, _CHANNELS, 3, 3)
        if channels != _CHANNELS:
            layer(f"{name}.skip_connection", _CHANNELS, channels, 1, 1)

    def attention(name: str) -> None:
        layer(f"{name}.norm", _CHANNELS)
        layer(f"{name}.qkv", 3 * _CHANNELS, _CHANNELS, 1)
        layer(f"{name}.proj_out", _CHANNELS, _CHANNELS, 1)

    layer("time_embed.0", 4 * _CHANNELS, _CHANNELS)
    layer("time_embed.2", 4 * _CHANNELS, 4 * _CHANNELS)
    layer("input_blocks.0.0", _CHANNELS, inputs, 3, 3)
    for k in (1, 2, 3):
        block(f"input_blocks.{k}.0", _CHANNELS)
    attention("input_blocks.3.1")
    block("middle_block.0", _CHANNELS)
    attention("middle_block.1")
    block("middle_block.2", _CHANNELS)
    for k in range(4):
        block(f"output_blocks.{k}.0", 2 * _CHANNELS)
    attention("output_blocks.0.1")
    attention("output_blocks.1.1")
    block("output_blocks.1.2", _CHANNELS)
    layer("out.0", _CHANNELS)
    layer("out.2", 6, _CHANNELS, 3, 3)
    return state
