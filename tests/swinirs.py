"""SwinIRs that have learned nothing, in DiffBIR's layout."""

from __future__ import annotations

from typing import Any

import published
from torch import Tensor

SMALL: dict[str, Any] = {"img_size": 16, "embed_dim": 24, "depths": [2, 2], "num_heads": [6, 6]}
"""For faces of 128 px."""

FULL: dict[str, Any] = {"img_size": 64, "embed_dim": 180, "depths": [6] * 8, "num_heads": [6] * 8}
"""As published, for faces of 512 px."""

_SHARED: dict[str, Any] = {
    "window_size": 8, "mlp_ratio": 2, "upscale": 8, "upsampler": "nearest+conv", "start_unshuffle": 8,
}  # fmt: skip


def checkpoint(sizes: dict[str, Any]) -> dict[str, Tensor]:
    """A state dict with drawn weights: what has none keeps its values, and the first convolution is nested."""
    from operators.weights.through_spandrel import module  # which may not be installed

    state = module("SwinIR").SwinIR(**_SHARED | sizes).state_dict()
    for key in ("conv_first.weight", "conv_first.bias"):
        state[key.replace(".", ".1.")] = state.pop(key)
    return {key: _drawn(key, value) for key, value in state.items()}


def _drawn(key: str, value: Tensor) -> Tensor:
    return value if key.endswith(("attn_mask", "relative_position_index")) else published.weight(key, value.shape)
