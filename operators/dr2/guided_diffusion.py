"""Read U-Nets in the guided-diffusion layout (ILVR, P2-weighting and DR2 checkpoints) into diffusers' layout.

The architecture is read off the state dict itself: channel widths, residual blocks per level, where
attention sits. Only the face size and the order of attention's q, k, v rows are not written there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from operators.dr2.unet import UNet2DModel
from operators.training.weights import WeightsError

_HEAD = 64  # channels of an attention head in every published face checkpoint

AttentionOrder = Literal["legacy", "new"]


@dataclass(frozen=True)
class Undeclared:
    """What a file in this layout does not say of itself; as the published face checkpoints have it.

    size: face side in pixels. schedule: of noise, over 1000 timesteps. attention: how the rows of q, k and v are
    packed. variance: of the reverse step, where the network has not learned one: beta ("fixed_large") or the
    posterior's ("fixed_small").
    """

    size: int = 256
    schedule: Literal["linear", "cosine"] = "linear"
    attention: AttentionOrder = "legacy"
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small"

    @staticmethod
    def of(settings: Mapping[str, object]) -> Undeclared:
        """From plain values; what is not among them is as published. Raises WeightsError for a value that is none."""
        known = {name: settings[name] for name in ("size", *_CHOICES) if settings.get(name) is not None}
        for name, value in known.items():
            allowed = _CHOICES.get(name)
            if value not in allowed if allowed else type(value) is not int:
                raise WeightsError(f"{name} is {value!r}; it takes {' or '.join(allowed) if allowed else 'pixels'}")
        return Undeclared(**known)  # type: ignore[arg-type]


_CHOICES = {
    "schedule": ("linear", "cosine"),
    "attention": ("legacy", "new"),
    "variance": ("fixed_small", "fixed_large"),
}

UNDECLARED = Undeclared()

_RES = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip


def looks_like_guided_diffusion(state: Mapping[str, object]) -> bool:
    """True when the keys are those of guided-diffusion's UNetModel."""
    return "time_embed.0.weight" in state and "input_blocks.0.0.weight" in state and "out.2.weight" in state


def to_diffusers(state: Mapping[str, Tensor], size: int, order: AttentionOrder = "legacy") -> tuple[UNet2DModel, bool]:
    """Build the diffusers U-Net of a guided-diffusion state dict.

    state: the published state dict. size: face side in pixels. order: how the qkv rows are packed.
    Returns the network with its weights in float32, and whether it predicts a learned variance.
    Raises WeightsError, about "it", when keys or shapes do not make up such a U-Net.
    """
    down, up = _blocks(state, "input_blocks"), _blocks(state, "output_blocks")
    levels = _levels(state, down)
    channels = tuple(level[-1][1] for level in levels)
    attention = tuple(any(_has(state, f"input_blocks.{k}.1.qkv") for k, _ in level) for level in levels)
    per_level = {len(level) for level in levels}
    if len(per_level) != 1 or len(up) != len(levels) * (per_level.copy().pop() + 1):
        raise WeightsError("its levels have not the same number of residual blocks each")
    out_channels = int(state["out.2.weight"].shape[0])
    if (inputs := int(state["input_blocks.0.0.weight"].shape[1])) != 3 or out_channels not in (3, 6):
        raise WeightsError(f"it goes from {inputs} channels to {out_channels}; a prior goes from 3 to 3, or to 6")
    if size % (halvings := 2 ** (len(levels) - 1)):
        raise WeightsError(f"it halves a face {len(levels) - 1} times: {size} px is no multiple of {halvings}")
    with torch.device("meta"):  # the checkpoint's own tensors take the place of these
        network = UNet2DModel(
            sample_size=size, in_channels=3, out_channels=out_channels, center_input_sample=False,
            time_embedding_type="positional", freq_shift=0, flip_sin_to_cos=True,
            down_block_types=tuple("AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attention)),
            block_out_channels=channels, layers_per_block=per_level.pop(), mid_block_scale_factor=1,
            downsample_type="resnet", upsample_type="resnet", dropout=0.0, act_fn="silu", attention_head_dim=_HEAD,
            norm_num_groups=32, attn_norm_num_groups=32, norm_eps=1e-5, resnet_time_scale_shift="scale_shift",
            add_attention=True,
        )  # fmt: skip
    renamed = _Renamer(state, order)
    renamed.layer("time_embed.0", "time_embedding.linear_1")
    renamed.layer("time_embed.2", "time_embedding.linear_2")
    renamed.layer("input_blocks.0.0", "conv_in")
    for i, level in enumerate(levels):
        for j, (k, _) in enumerate(level):
            renamed.res(f"input_blocks.{k}.0", f"down_blocks.{i}.resnets.{j}")
            renamed.attention(f"input_blocks.{k}.1", f"down_blocks.{i}.attentions.{j}")
        if i < len(levels) - 1:
            renamed.res(f"input_blocks.{level[-1][0] + 1}.0", f"down_blocks.{i}.downsamplers.0")
    renamed.res("middle_block.0", "mid_block.resnets.0")
    renamed.attention("middle_block.1", "mid_block.attentions.0")
    renamed.res("middle_block.2", "mid_block.resnets.1")
    blocks = len(up) // len(levels)
    for k in range(len(up)):
        i, j = divmod(k, blocks)
        renamed.res(f"output_blocks.{k}.0", f"up_blocks.{i}.resnets.{j}")
        renamed.attention(f"output_blocks.{k}.1", f"up_blocks.{i}.attentions.{j}")
        if j == blocks - 1 and i < len(levels) - 1:
            sub = 2 if _has(state, f"output_blocks.{k}.1.qkv") else 1
            renamed.res(f"output_blocks.{k}.{sub}", f"up_blocks.{i}.upsamplers.0")
    renamed.layer("out.0", "conv_norm_out")
    renamed.layer("out.2", "conv_out")
    if unknown := sorted(state.keys() - renamed.used):
        raise WeightsError(f"it has {len(unknown)} tensors that no such U-Net has, as {unknown[0]}")
    try:
        network.load_state_dict({key: value.float() for key, value in renamed.result.items()}, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"its tensors do not fit the network that they describe: {reason}") from error
    return network, out_channels == 6


def _has(state: Mapping[str, Tensor], layer: str) -> bool:
    return f"{layer}.weight" in state


def _blocks(state: Mapping[str, Tensor], part: str) -> list[int]:
    found = {int(match.group(1)) for key in state if (match := re.match(rf"{part}\.(\d+)\.", key))}
    return sorted(found)


def _levels(state: Mapping[str, Tensor], down: list[int]) -> list[list[tuple[int, int]]]:
    """Group the residual blocks of the down path by level, as (index, channels).

    A downsampling block keeps its channels, so in the chain of blocks every (per level + 1)-th one is
    a downsampler; how many there are is read from the up path, which has one block more per level.
    """
    ups = len(_blocks(state, "output_blocks"))
    count = len(down) - 1  # without conv_in; = levels * per_level + levels - 1, while ups = levels * (per_level + 1)
    per_level_plus_one = next((n for n in range(2, ups + 1) if ups % n == 0 and ups - 1 == count
                               and _fits(state, down, n)), None)  # fmt: skip
    if per_level_plus_one is None:
        raise WeightsError("its input and output blocks do not match")
    levels: list[list[tuple[int, int]]] = [[]]
    for position, k in enumerate(down[1:]):
        if position % per_level_plus_one == per_level_plus_one - 1:
            levels.append([])
        else:
            levels[-1].append((k, int(state[f"input_blocks.{k}.0.out_layers.3.weight"].shape[0])))
    return levels


def _fits(state: Mapping[str, Tensor], down: list[int], period: int) -> bool:
    """True when widths change only at the first block of a level, given one downsampler every ``period`` blocks."""
    width = int(state["input_blocks.0.0.weight"].shape[0])
    for position, k in enumerate(down[1:]):
        key = f"input_blocks.{k}.0.out_layers.3.weight"
        if key not in state:
            return False
        out = int(state[key].shape[0])
        first = position % period == 0
        if out != width and not first:
            return False
        # Only a downsampler is never followed by attention.
        if position % period == period - 1 and _has(state, f"input_blocks.{k}.1.qkv"):
            return False
        width = out
    return True


class _Renamer:
    """Collects tensors under diffusers' names."""

    def __init__(self, state: Mapping[str, Tensor], order: AttentionOrder) -> None:
        self.state, self.order = state, order
        self.result: dict[str, Tensor] = {}
        self.used: set[str] = set()

    def layer(self, old: str, new: str) -> None:
        for part in ("weight", "bias"):
            self.result[f"{new}.{part}"] = self.take(f"{old}.{part}")

    def take(self, key: str) -> Tensor:
        """A tensor that the checkpoint must have."""
        if key not in self.state:
            raise WeightsError(f"it lacks the tensor {key}")
        self.used.add(key)
        return self.state[key]

    def res(self, old: str, new: str) -> None:
        for source, target in _RES.items():
            if source != "skip_connection" or _has(self.state, f"{old}.{source}"):
                self.layer(f"{old}.{source}", f"{new}.{target}")

    def attention(self, old: str, new: str) -> None:
        if not _has(self.state, f"{old}.qkv"):
            return
        self.layer(f"{old}.norm", f"{new}.group_norm")
        for part in ("weight", "bias"):
            qkv = self.take(f"{old}.qkv.{part}")
            qkv = qkv.squeeze(-1) if part == "weight" else qkv
            heads, rest = divmod(qkv.shape[0], 3 * _HEAD)
            if rest:
                raise WeightsError(f"{old}.qkv has {qkv.shape[0]} rows: not heads of {_HEAD} channels")
            shape = (heads, 3, _HEAD) if self.order == "legacy" else (3, heads, _HEAD)
            split = qkv.reshape(*shape, *qkv.shape[1:])
            if self.order == "legacy":
                split = split.transpose(0, 1)
            for name, rows in zip(("to_q", "to_k", "to_v"), split, strict=True):
                self.result[f"{new}.{name}.{part}"] = rows.reshape(-1, *qkv.shape[1:]).contiguous()
        weight = self.take(f"{old}.proj_out.weight")
        self.result[f"{new}.to_out.0.weight"] = weight.reshape(weight.shape[:2])
        self.result[f"{new}.to_out.0.bias"] = self.take(f"{old}.proj_out.bias")
