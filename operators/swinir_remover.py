"""Degradation removal by SwinIR, the first stage of DiffBIR: one pass of a network in place of a chain of DR2.

Lin et al., "DiffBIR: Towards Blind Image Restoration with Generative Diffusion Prior", ECCV 2024, arXiv 2308.15070;
Liang et al., "SwinIR", ICCVW 2021, arXiv 2108.10257. The network is spandrel's. Faces are 512 px there, in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from operators.enhance.adapter import NetworkEnhancer
from operators.enhance.architecture import Architecture, State
from operators.enhance.contract import DEFAULTS, Enhancer, EnhancerDescriptor, Options
from operators.enhance.contract import Identity as ModelIdentity
from operators.quality.judge import Judge
from operators.restoration import Identity, Pixels, Removal, unit_range
from operators.training.weights import WeightsError, sha256_file
from operators.weights.reading import read_state
from operators.weights.through_spandrel import network

NAME = "SwinIR"

_BLOCK = "layers.0.residual_group.blocks.0"
_MASK = "layers.0.residual_group.blocks.1.attn_mask"  # (windows of a training image, w^2, w^2)
_AT_ONCE = 8  # faces between two signs of life
_MEMORY = 150_994_944  # bytes of the tensors alive at once for a face of 512 px, counted without computing


class SwinIRRemover:
    """From degraded faces to clean, still soft ones, as `DegradationRemover`, without N and tau.

    size: side in pixels of the faces it takes. evaluations: faces the network saw so far.
    """

    def __init__(self, cleaner: Enhancer, niqe: Judge) -> None:
        """cleaner: takes and returns faces of one size. niqe: scores faces before and after; any judge will do."""
        self.cleaner, self.niqe, self.evaluations = cleaner, niqe, 0

    @classmethod
    def load(cls, path: Path, niqe: Judge, device: str | torch.device = "cpu") -> SwinIRRemover:
        """The remover of a checkpoint. Raises WeightsError for a file that is missing, broken, or no SwinIR that keeps
        the size of a face in colour."""
        state = _read(path)
        identity = ModelIdentity(path.name, "see its publisher", sha256_file(path))
        return cls(_ARCHITECTURE.load(state, path, identity, torch.device(device), DEFAULTS), niqe)

    @property
    def size(self) -> int:
        return self.cleaner.input_size

    def remove(
        self, crops: Sequence[Pixels], identities: Sequence[Identity], on_step: Callable[[], None] | None = None
    ) -> list[Removal]:
        """Removes the degradation of faces, each of which is restored, and none kept as it came.

        crops: (S, S, 3) uint8 RGB aligned faces, S = size. identities: one of each, which decides nothing here.
        on_step: called after every few faces. Returns one Removal per crop, in order; a face's result does not depend
        on its companions.
        """
        if not crops:
            return []
        if len(crops) != len(identities):
            raise ValueError(f"need an identity of each of {len(crops)} faces, got {len(identities)}")
        images: list[Pixels] = []
        for start in range(0, len(crops), _AT_ONCE):
            some = np.stack(crops[start : start + _AT_ONCE])
            images += list(self.cleaner.enhance(some))
            self.evaluations += len(some)
            if on_step is not None:
                on_step()
        before, after = self.niqe.score(unit_range(crops)), self.niqe.score(unit_range(images))
        return [
            Removal(image, "restored", None, None, NAME, float(came), float(left), evaluations=1)
            for image, came, left in zip(images, before, after, strict=True)
        ]


def face_size(path: Path) -> int:
    """Side in pixels of the faces that a checkpoint takes: of the images it was trained on. Raises WeightsError."""
    state = _read(path)
    try:
        return size_of(state)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise WeightsError(f"{path} is a SwinIR that cannot be built here: {error}") from None


def recognises(state: State) -> bool:
    """Whether a state dict is a SwinIR's that keeps the size of its images; others of that name enlarge them."""
    try:
        return _recognises(state) and size_of(state) > 0
    except (ValueError, IndexError, ZeroDivisionError):
        return False


def _read(path: Path) -> State:
    state = read_state(path)
    if not _recognises(state):
        first = ", ".join(sorted(state)[:3])
        raise WeightsError(
            f"{path} is no SwinIR, which restore.remover asks for besides 'dr2'; its tensors are called {first}, ..."
        )
    return state


def _recognises(state: State) -> bool:
    first = "conv_first.weight" in state or "conv_first.1.weight" in state
    return first and {f"{_BLOCK}.norm1.weight", f"{_BLOCK}.attn.relative_position_index"} <= state.keys()


def size_of(state: State) -> int:
    """Side in pixels of the faces a SwinIR takes. Raises ValueError where no tensor tells, or they would come out
    larger."""
    if _MASK not in state:
        raise ValueError(f"the tensor {_MASK}, which tells the size of its images, is missing")
    unshuffled = state.get("conv_first.1.weight")
    factor = 1 if unshuffled is None else math.isqrt(unshuffled.shape[1] // 3)
    if (enlarged := _enlarged(state)) != factor:
        raise ValueError(f"it enlarges images {enlarged / factor:g} times; a remover keeps their size")
    window = math.isqrt(state[f"{_BLOCK}.attn.relative_position_index"].shape[0])
    return math.isqrt(state[_MASK].shape[0]) * window * factor


def _enlarged(state: State) -> int:
    """How many times larger the network's image is than its features."""
    if "conv_up1.weight" in state:
        return 2 ** sum(f"conv_up{place}.weight" in state for place in (1, 2, 3))
    return 1 if not any(key.startswith("upsample.") for key in state) else 2


def _build(state: State, identity: ModelIdentity, device: torch.device, options: Options) -> Enhancer:
    size = size_of(state)
    descriptor = EnhancerDescriptor.keeping_size(
        identity, NAME, size, value_range=(0.0, 1.0), memory=_MEMORY if size == 512 else 0
    )
    return NetworkEnhancer(network(NAME, state), descriptor, device, options=options)


_ARCHITECTURE = Architecture(NAME, _recognises, _build)
