"""CodeFormer: a transformer guesses the sharp face in the words of a code book, 512 px in and out.

Zhou et al., "Towards Robust Blind Face Restoration with Codebook Lookup Transformer", NeurIPS 2022, arXiv 2206.11253.
The network is spandrel's, called here: its own wrapper feeds it [0, 1], and knows one fidelity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.architecture import Architecture, State
from operators.enhance.contract import Enhancer, EnhancerDescriptor, Fidelity, Identity, Options
from operators.weights.through_spandrel import network

NAME = "CodeFormer"

_SIZE = 512
_KEYS = frozenset(
    {
        "position_emb",
        "feat_emb.weight",
        "idx_pred_layer.1.weight",
        "quantize.embedding.weight",
        "ft_layers.0.self_attn.in_proj_weight",
        "encoder.blocks.0.weight",
    }
)

_MEMORY = 588_254_208
"""Bytes of the tensors that are alive at once for a face of 512 px, counted without computing; what libraries need to
work comes on top."""


class CodeFormerEnhancer(NetworkEnhancer):
    """CodeFormer behind the enhancer contract; `fidelity` is the paper's w. As published, the colours of its words are
    those of the face that came (AdaIN)."""

    def run(self, faces: Tensor) -> Tensor:
        """See :class:`NetworkEnhancer`."""
        image: Tensor = self.network(faces, weight=self.fidelity)[0]
        return image


def _recognises(state: State) -> bool:
    return state.keys() >= _KEYS


def _build(state: State, identity: Identity, device: torch.device, options: Options) -> Enhancer:
    descriptor = EnhancerDescriptor.keeping_size(
        identity, NAME, _SIZE, memory=_MEMORY, fidelity=Fidelity(low=0.0, high=1.0, default=0.5)
    )
    return CodeFormerEnhancer(network(NAME, state), descriptor, device, options=options)


ARCHITECTURE = Architecture(NAME, _recognises, _build)
