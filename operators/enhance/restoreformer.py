"""RestoreFormer: features of the degraded face asked, by attention, for those of a dictionary of sharp ones, 512 px.

Wang et al., "RestoreFormer: High-Quality Blind Face Restoration from Undegraded Key-Value Pairs", CVPR 2022, arXiv
2201.06374. The network is spandrel's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.architecture import Architecture, State
from operators.enhance.contract import Enhancer, EnhancerDescriptor, Identity, Options
from operators.weights.through_spandrel import network

NAME = "RestoreFormer"

_SIZE = 512  # px, on which it depends at what resolution attention sits; no tensor tells it
_KEYS = frozenset(
    {
        "encoder.conv_in.weight",
        "encoder.mid.attn_1.norm2.weight",
        "quantize.embedding.weight",
        "quant_conv.weight",
        "decoder.conv_out.weight",
    }
)
_TRAINED = "vqvae."
"""What precedes the network's keys where the whole of its training was saved, losses included."""

_MEMORY = 722_208_768
"""Bytes of the tensors that are alive at once for a face of 512 px, counted without computing; what libraries need to
work comes on top."""


class RestoreFormerEnhancer(NetworkEnhancer):
    """RestoreFormer behind the enhancer contract."""

    def run(self, faces: Tensor) -> Tensor:
        """See :class:`NetworkEnhancer`."""
        image: Tensor = self.network(faces)[0]
        return image


def _network_of(state: State) -> State:
    if _TRAINED + "encoder.conv_in.weight" not in state:
        return state
    return {key.removeprefix(_TRAINED): value for key, value in state.items() if key.startswith(_TRAINED)}


def _recognises(state: State) -> bool:
    return _network_of(state).keys() >= _KEYS


def _build(state: State, identity: Identity, device: torch.device, options: Options) -> Enhancer:
    descriptor = EnhancerDescriptor.keeping_size(identity, NAME, _SIZE, memory=_MEMORY)
    return RestoreFormerEnhancer(network(NAME, _network_of(state)), descriptor, device, options=options)


ARCHITECTURE = Architecture(NAME, _recognises, _build)
