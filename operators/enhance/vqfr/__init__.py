"""VQFR as published, versions 1 and 2: how their checkpoints are recognised, and the enhancers made of them.

Gu et al., "VQFR: Blind Face Restoration with Vector-Quantized Dictionary and Parallel Decoder", ECCV 2022,
arXiv 2205.06803. Apache-2.0, but for what its LICENSE lists.
"""

from __future__ import annotations

import torch
from torch import Tensor

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.architecture import Architecture, State
from operators.enhance.contract import EnhancerDescriptor, Fidelity, Identity, Options
from operators.enhance.vqfr import v1, v2

_CODES = 16  # codes along a face's side, as published: with the halvings they make the face's size
_GPU_BATCH = 4

# measured at 512 px on a CPU, weights left out; version 2 with its warped branch, without which it takes 1,750
_V1_BYTES_PER_PIXEL = 10_100
_V2_BYTES_PER_PIXEL = 6_140


class VQFRv2Enhancer(NetworkEnhancer):
    """Version 2 with its fidelity: at 0, as published, the codes alone make the face."""

    def run(self, faces: Tensor) -> Tensor:
        """See :class:`NetworkEnhancer`."""
        enhanced: Tensor = self.network(faces, self.fidelity)
        return enhanced


def _recognises_v1(state: State) -> bool:
    return "main_decoder.conv_out.0.weight" in state and "encoder.encoder_dict.Level_1.0.conv1.weight" in state


def _recognises_v2(state: State) -> bool:
    return "main_branch.align_func_dict.Level_1.dcn.weight" in state and "quantizer.embedding.weight" in state


def _build_v1(state: State, identity: Identity, device: torch.device, options: Options) -> NetworkEnhancer:
    network, halvings = v1.network_of(state)
    descriptor = _descriptor(V1.name, identity, halvings, _V1_BYTES_PER_PIXEL)
    return NetworkEnhancer(network, descriptor, device, options=options, gpu_batch=_GPU_BATCH)


def _build_v2(state: State, identity: Identity, device: torch.device, options: Options) -> NetworkEnhancer:
    network, halvings = v2.network_of(state)
    knob = Fidelity(low=0.0, high=1.0, default=0.0)
    descriptor = _descriptor(V2.name, identity, halvings, _V2_BYTES_PER_PIXEL, knob)
    return VQFRv2Enhancer(network, descriptor, device, options=options, gpu_batch=_GPU_BATCH)


def _descriptor(
    name: str, identity: Identity, halvings: int, bytes_per_pixel: int, knob: Fidelity | None = None
) -> EnhancerDescriptor:
    size = _CODES << halvings
    return EnhancerDescriptor.keeping_size(
        identity, name, size, precisions=("float32", "bfloat16"), memory=bytes_per_pixel * size * size, fidelity=knob
    )


V1 = Architecture("VQFR-v1", _recognises_v1, _build_v1)
V2 = Architecture("VQFR-v2", _recognises_v2, _build_v2)
