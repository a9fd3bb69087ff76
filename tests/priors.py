"""A prior that has learned nothing: what moves faces through it does not mind."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel

from operators.dr2.prior import Prior, PriorSpec
from operators.dr2.schedule import Schedule


def untrained(size: int, channels: int, max_timestep: int) -> Prior:
    """Random weights, the same each time; faces of `size` px, `channels` (a multiple of 8) in each of two blocks."""
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(channels, channels),
        layers_per_block=1,
        norm_num_groups=8,
    )
    spec = PriorSpec(size, max_timestep=max_timestep)
    return Prior(network, spec, Schedule.linear(), name="random", licence="", fingerprint="", precision="float32")
