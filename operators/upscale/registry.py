"""Upscalers by name, and by the file of their weights."""

from __future__ import annotations

from pathlib import Path

import torch

from operators.upscale.bicubic import BicubicUpscaler
from operators.upscale.contract import Upscaler

BICUBIC = "bicubic"


def load(source: str, scale: int, device: str | torch.device = "cpu", *, tile: int = 256) -> Upscaler:
    """The upscaler called `source`, ready on `device`.

    source: "bicubic", or the path of a published super-resolution checkpoint. scale: how many times larger. tile:
    pixels of the photograph a side that a network sees at a time, beside its surroundings.
    Raises WeightsError for a file that is missing, broken, of another kind, or cannot give `scale`.
    """
    if source == BICUBIC:
        return BicubicUpscaler(scale)
    from operators.upscale.network import NetworkUpscaler

    return NetworkUpscaler.load(Path(source), scale, device, tile)
