"""ParseNet, as PSFRGAN trained it and facexlib packages it, for those who have its weights.

It says of each pixel of a face which of 19 classes it is (those of CelebAMask-HQ). GFPGAN and CodeFormer paste back
what is the face, the ears and the hair, and leave background, hat, neck and clothes as they were; so does this.
facexlib is an optional dependency, imported where the network is built.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from operators.exact import batch_for, exact
from operators.training.weights import WeightsError, sha256_file
from operators.weights.reading import read_state

WEIGHTS = "parsing_parsenet.pth"
"""The file as facexlib publishes it."""

SIDE = 512
"""Pixels a side of what the network sees and says."""

MASK_SIDE = 128
"""Pixels a side of a mask: as soft as it is, more would say no more."""

CLASSES = (
    "background", "skin", "nose", "glasses", "left eye", "right eye", "left brow", "right brow", "left ear",
    "right ear", "mouth", "upper lip", "lower lip", "hair", "hat", "earring", "necklace", "neck", "clothes",
)  # fmt: skip
LEFT = frozenset({"background", "hat", "necklace", "neck", "clothes"})
"""What stays as it was in the photo."""

BLUR = 11 * 2**0.5
"""Sigma in pixels at SIDE: facexlib blurs twice with a sigma of 11."""

LEAST = 0.05
"""Of the crop: where less is the person's, the parser did not find the face."""


class FaceParser:
    """The masks of faces. A face's mask depends on that face alone: the network always sees one number of them."""

    name = "ParseNet"
    licence = "see its publisher"

    def __init__(
        self, network: nn.Module, fingerprint: str, device: str | torch.device = "cpu", *, gpu_batch: int = 8
    ) -> None:
        """network: (B, 3, 512, 512) in [-1, 1] to a tuple whose first is (B, 19, 512, 512), any scale."""
        self.fingerprint = fingerprint
        self.device = torch.device(device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self._batch = batch_for(self.device, gpu_batch, 0)

    @classmethod
    def load(cls, path: Path, device: str | torch.device = "cpu") -> FaceParser:
        """The network with the weights in `path`.

        Raises WeightsError for a file that is missing, broken or another network's, and without facexlib.
        """
        state = read_state(path)
        try:
            from facexlib.parsing.parsenet import ParseNet
        except ImportError:
            raise WeightsError("ParseNet needs facexlib: pip install 'dr2e[retinaface]', or use 'none'") from None
        with torch.device("meta"):
            network: nn.Module = ParseNet(in_size=SIDE, out_size=SIDE, parsing_ch=len(CLASSES))
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{path} holds other weights than {WEIGHTS}: {reason}") from None
        return cls(network.float(), sha256_file(path), device)

    def masks(self, faces: NDArray[np.uint8]) -> list[NDArray[np.uint8] | None]:
        """faces: (B, S, S, 3) uint8 RGB, aligned to FFHQ's template. Of each (128, 128) uint8, from 0, which leaves the
        photo as it was, to 255, soft at its edges; None where the parser finds no face to speak of."""
        return [soft_mask(labels) for labels in self.labels(faces)]

    def labels(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Of each face (512, 512) uint8: the place of each pixel's class in CLASSES."""
        found = np.empty((len(faces), SIDE, SIDE), np.uint8)
        for start in range(0, len(faces), self._batch):
            chunk = [_sized(face) for face in faces[start : start + self._batch]]
            padded = np.zeros((self._batch, SIDE, SIDE, 3), np.uint8)
            padded[: len(chunk)] = chunk
            found[start : start + len(chunk)] = self._run(padded)[: len(chunk)]
        return found

    @torch.inference_mode()
    def _run(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        batch = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 127.5 - 1
        with exact(self.device):
            scores: Tensor = self.network(batch.to(self.device).contiguous(memory_format=torch.channels_last))[0]
        return scores.argmax(dim=1).to(torch.uint8).cpu().numpy()


def soft_mask(labels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The mask (128, 128) uint8 of a face's labels (512, 512); None where next to nothing is the person's."""
    is_theirs = np.array([name not in LEFT for name in CLASSES])[labels]
    if is_theirs.mean() < LEAST:
        return None
    soft = ndimage.gaussian_filter(is_theirs.astype(np.float32), BLUR, mode="mirror")
    cells = soft.reshape(MASK_SIDE, SIDE // MASK_SIDE, MASK_SIDE, SIDE // MASK_SIDE).mean(axis=(1, 3))
    return np.clip(cells * 255 + 0.5, 0, 255).astype(np.uint8)


def _sized(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(face) == SIDE:
        return face
    return np.asarray(Image.fromarray(face).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
