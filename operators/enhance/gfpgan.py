"""GFPGAN 1.2, 1.3 and 1.4: a U-Net whose features steer a StyleGAN2 generator, 512 px in and out.

Wang et al., "Towards Real-World Blind Face Restoration with Generative Facial Prior", CVPR 2021, arXiv 2101.04061. The
network is spandrel's, called here: its own wrapper feeds it [0, 1], and noise that differs from call to call.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.architecture import Architecture, State
from operators.enhance.contract import Enhancer, EnhancerDescriptor, Identity, Options
from operators.training.weights import WeightsError
from operators.weights.through_spandrel import in_float32, module

NAME = "GFPGAN"

_FULL = 512  # channels where the published generator is widest
_FIRST = "conv_body_first.0.weight"  # of version 1, whose layers are nested one deeper
_FACTOR = 2  # the generator's channel multiplier, where a network is too small to tell it

_MEASURED = 512
_MEMORY = 562_806_784
"""Bytes of the tensors that are alive at once for a face of 512 px, counted without computing; what libraries need to
work comes on top."""


class GfpganEnhancer(NetworkEnhancer):
    """GFPGAN behind the enhancer contract, with the noise that its checkpoint holds."""

    memory_format = torch.contiguous_format  # it takes views of its features, and has weights of five dimensions

    def run(self, faces: Tensor) -> Tensor:
        """See :class:`NetworkEnhancer`."""
        image: Tensor = self.network(faces, return_rgb=False, randomize_noise=False)[0]
        return image


def _recognises(state: State) -> bool:
    keys = {"toRGB.0.weight", "stylegan_decoder.style_mlp.1.weight", "stylegan_decoder.constant_input.weight"}
    return keys <= state.keys() and ("conv_body_first.weight" in state or _FIRST in state)


def _build(state: State, identity: Identity, device: torch.device, options: Options) -> Enhancer:
    if _FIRST in state:
        raise WeightsError(
            f"{identity.name} is GFPGAN version 1, whose layers are compiled for CUDA alone; "
            "use GFPGANv1.3.pth or GFPGANv1.4.pth"
        )
    settings = _settings(state)
    network = module(NAME).GFPGAN(**settings, input_is_latent=True)
    network.load_state_dict(in_float32(state))
    size = settings["out_size"]
    descriptor = EnhancerDescriptor.keeping_size(identity, NAME, size, memory=_MEMORY if size == _MEASURED else 0)
    return GfpganEnhancer(network, descriptor, device, options=options)


def _settings(state: State) -> dict[str, Any]:
    """The network's sizes, read off its tensors; raises KeyError and IndexError for another network's."""
    levels = _count(state, r"toRGB\.(\d+)\.weight")  # 8 px is the first
    style = state["stylegan_decoder.style_mlp.1.weight"].shape[0]
    narrow = state["stylegan_decoder.constant_input.weight"].shape[1] / _FULL
    at_64 = state.get("stylegan_decoder.to_rgbs.3.modulated_conv.weight")  # (1, 3, C, 1, 1); 8 px is number 0
    return {
        "out_size": 2 ** (levels + 2),
        "num_style_feat": style,
        "num_mlp": _count(state, r"stylegan_decoder\.style_mlp\.(\d+)\.weight"),
        "channel_multiplier": _FACTOR if at_64 is None else at_64.shape[2] / (256 * narrow),
        "narrow": narrow,
        "different_w": state["final_linear.weight"].shape[0] != style,
        "sft_half": state["condition_scale.0.2.weight"].shape[0] == state["toRGB.0.weight"].shape[1],
    }


def _count(state: State, pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in state)


ARCHITECTURE = Architecture(NAME, _recognises, _build)
