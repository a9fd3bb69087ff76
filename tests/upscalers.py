"""Small super-resolution networks in the layouts that Real-ESRGAN publishes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from published import seeded
from torch import Tensor

GROW = 32  # channels that each convolution of a dense block adds, as published


def rrdb(path: Path, *, scale: int = 4, filters: int = 16, blocks: int = 1) -> Path:
    """Write an RRDBNet for 2 or 4 times, whose output lies about the middle of [0, 1]."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, taken: int, given: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (given, taken, 3, 3), (given,)

    convolution("conv_first", 3 if scale == 4 else 12, filters)  # for 2 times the input is folded 2 x 2
    for block in range(blocks):
        for dense in (1, 2, 3):
            for place in (1, 2, 3, 4, 5):
                convolution(
                    f"body.{block}.rdb{dense}.conv{place}",
                    filters + (place - 1) * GROW,
                    filters if place == 5 else GROW,
                )
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        convolution(name, filters, filters)
    convolution("conv_last", filters, 3)
    weights = seeded(shapes)
    weights["conv_last.bias"] += 0.5
    return _save(path, "params_ema", weights)


def compact(path: Path, *, scale: int = 4, filters: int = 16, convolutions: int = 2) -> Path:
    """Write an SRVGGNetCompact."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = [3, *[filters] * (convolutions + 1), 3 * scale**2]
    for place, (taken, given) in enumerate(pairwise(channels)):
        shapes[f"body.{2 * place}.weight"], shapes[f"body.{2 * place}.bias"] = (given, taken, 3, 3), (given,)
        if place < convolutions + 1:
            shapes[f"body.{2 * place + 1}.weight"] = (given,)  # of a PReLU
    return _save(path, "params", seeded(shapes))


def _save(path: Path, wrapper: str, weights: dict[str, Tensor]) -> Path:
    torch.save({wrapper: weights}, path)
    return path
