"""RetinaFace (Deng et al., 2020) as packaged by facexlib, for those who have its weights.

facexlib is an optional dependency and its weights are a download of their own; neither is needed to import
this module, and nothing here ever downloads.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from operators.detect.contract import Detection, in_reading_order
from operators.exact import exact
from operators.training.weights import WeightsError, is_ours, sha256_file
from operators.weights.reading import SUFFIXES, read_state

RESNET, MOBILENET = "detection_Resnet50_Final.pth", "detection_mobilenet0.25_Final.pth"
WEIGHTS = (RESNET, MOBILENET)
"""The files as facexlib publishes them; of a folder that holds both the first counts."""

NETWORKS = {"body.conv1.weight": "resnet50", "body.stage1.0.0.weight": "mobile0.25"}
"""What facexlib calls the network that has a tensor of this name."""

LONGEST_SIDE = 2150
"""Larger photos are looked at shrunken to this side, facexlib's limit, which also bounds memory."""

SCORE = 0.8
"""Least score of a face, facexlib's default."""

OVERLAP = 0.4
"""Of two faces that share more of their union the surer one counts, facexlib's default."""

MULTIPLE = 64
"""Photos are padded to sides that are multiples of this, so that those of about one size go through together."""

PIXELS = 8_000_000
"""Padded pixels that go through the network together on a GPU, and MOST photos at most."""

MOST = 8

_MEAN = np.array([104, 117, 123], np.float32)  # of blue, green and red, which the network was trained without
_STEPS = (8, 16, 32)  # pixels between the anchors of a level
_ANCHORS = ((16, 32), (64, 128), (256, 512))  # their sides in pixels
_VARIANCES = (0.1, 0.2)  # the units of offsets and of logarithms of sides


class RetinaFaceDetector:
    """facexlib's `retinaface_resnet50` or `retinaface_mobile0.25` behind the `Detector` contract.

    Photos of one padded size go through the network together on a GPU. How many follows from that size alone, and what
    lacks is filled up, so that libraries choose the order of their sums by the photo and not by those beside it.
    """

    name = "retinaface"

    def __init__(self, network: nn.Module, fingerprint: str, device: torch.device | str = "cpu") -> None:
        """network: (B, 3, H, W) BGR less its mean to offsets (B, A, 4), probabilities (B, A, 2) of no face and a face,
        and offsets of landmarks (B, A, 10), for the A anchors of `anchors`."""
        self.device = torch.device(device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.fingerprint = fingerprint
        self.together = 1 if self.device.type == "cpu" else MOST
        """Photos that are best handed in at a time."""

    @classmethod
    def load(cls, source: str | Path, device: torch.device | str = "cpu") -> RetinaFaceDetector:
        """The network with the weights `source`, a file or a folder with one of WEIGHTS.

        Raises WeightsError when facexlib is not installed, or the file is missing or not its.
        """
        path = weights_in(source)
        state = read_state(path)
        kind = next((kind for name, kind in NETWORKS.items() if name in state), None)
        if kind is None:
            raise WeightsError(f"{path} holds no RetinaFace of facexlib; name {' or '.join(WEIGHTS)}")
        try:
            from facexlib.detection.retinaface import RetinaFace
        except ImportError as error:
            raise WeightsError("RetinaFace needs facexlib: pip install 'dr2e[retinaface]', or use 'builtin'") from error
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks torchvision for no weights in an old way
            network: nn.Module = RetinaFace(network_name=kind, device="meta")
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{path} is not the RetinaFace of facexlib: {reason}") from None
        return cls(network.float(), sha256_file(path), device)

    @torch.inference_mode()
    def detect(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces of each photo (H, W, 3) uint8 RGB, ordered by (x0, y0)."""
        found: list[list[Detection]] = [[] for _ in photos]
        by_size: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for index, photo in enumerate(photos):
            by_size[padded_size(*seen_size(*photo.shape[:2]))].append(index)
        for (height, width), indices in by_size.items():
            batch = min(self.together, max(1, PIXELS // (height * width)))
            for start in range(0, len(indices), batch):
                chunk = indices[start : start + batch]
                inputs = np.zeros((batch, height, width, 3), np.float32)
                for place, index in enumerate(chunk):
                    seen = _shrunken(photos[index])
                    inputs[place, : seen.shape[0], : seen.shape[1]] = seen[:, :, ::-1] - _MEAN
                for index, rows in zip(chunk, self._rows(inputs)[: len(chunk)], strict=True):
                    found[index] = _in_photo(rows, photos[index])
        return found

    def _rows(self, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """inputs: (B, H, W, 3) BGR less its mean. Of each rows (N, 15) of x0, y0, x1, y1, score, five x and y."""
        batch = torch.from_numpy(inputs).permute(0, 3, 1, 2).to(self.device)
        with exact(self.device):
            offsets, probabilities, points = (part.float() for part in self.network(batch))
        there = anchors(*inputs.shape[1:3]).to(self.device)
        return [
            _chosen(there, offsets[place], probabilities[place, :, 1], points[place]) for place in range(len(inputs))
        ]


def weights_in(source: str | Path) -> Path:
    """The file of weights that `source` is, or that lies in it. Raises WeightsError where there is none."""
    path = Path(source)
    if path.is_file():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise WeightsError(
        f"RetinaFace weights not found: {path}; put facexlib's {' or '.join(WEIGHTS)} there, or use 'builtin'"
    )


def source_of(detector: str) -> str | None:
    """The file or folder that a configured detector names of RetinaFace: "retinaface:SOURCE", or a weights file. None
    where it names a detector of ours."""
    kind, _, source = detector.partition(":")
    if kind == "retinaface":
        return source
    path = Path(detector)
    return detector if path.suffix.lower() in SUFFIXES and not is_ours(path) else None


def seen_size(height: int, width: int) -> tuple[int, int]:
    """Height and width at which a photo is looked at."""
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return (height, width) if factor == 1 else (max(1, round(height * factor)), max(1, round(width * factor)))


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of what the network gets of it."""
    return -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE


@lru_cache(maxsize=8)
def anchors(height: int, width: int) -> Tensor:
    """The anchors of all levels for a picture of that size: (A, 4) of middle x, middle y, width, height in pixels."""
    levels = []
    for step, sides in zip(_STEPS, _ANCHORS, strict=True):
        along = [(torch.arange(-(-side // step)) + 0.5) * step for side in (height, width)]
        y, x = torch.meshgrid(*along, indexing="ij")
        middles = torch.stack([x, y], dim=-1).reshape(-1, 1, 2).expand(-1, len(sides), 2)
        sizes = torch.tensor(sides, dtype=torch.float32)[None, :, None].expand(len(middles), len(sides), 2)
        levels.append(torch.cat([middles, sizes], dim=-1).reshape(-1, 4))
    return torch.cat(levels)


def _chosen(there: Tensor, offsets: Tensor, scores: Tensor, points: Tensor) -> NDArray[np.float32]:
    """Rows (N, 15) of a picture's faces, from what the network says of each anchor."""
    from torchvision.ops import nms

    likely = scores > SCORE
    there, offsets, scores, points = there[likely], offsets[likely], scores[likely], points[likely]
    middle = there[:, :2] + offsets[:, :2] * _VARIANCES[0] * there[:, 2:]
    half = there[:, 2:] * torch.exp(offsets[:, 2:] * _VARIANCES[1]) / 2
    boxes = torch.cat([middle - half, middle + half], dim=1)
    landmarks = there[:, None, :2] + points.view(-1, 5, 2) * _VARIANCES[0] * there[:, None, 2:]
    kept = nms(boxes, scores, OVERLAP)
    rows = torch.cat([boxes, scores[:, None], landmarks.flatten(1)], dim=1)[kept]
    return rows.cpu().numpy()


def _shrunken(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The photo as it is looked at."""
    height, width = seen_size(*photo.shape[:2])
    if (height, width) == photo.shape[:2]:
        return photo.astype(np.float32)
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX)).astype(np.float32)


def _in_photo(rows: NDArray[np.float32], photo: NDArray[np.uint8]) -> list[Detection]:
    """What was found where the photo was looked at, in its own pixels; not what lies in the padding alone."""
    (height, width), (seen_height, seen_width) = photo.shape[:2], seen_size(*photo.shape[:2])
    scale = np.array([width / seen_width, height / seen_height], np.float32)
    limits = np.array([width, height], np.float32)
    found = []
    for row in rows:
        corners = np.clip((row[:4].reshape(2, 2) + 0.5) * scale - 0.5, 0, limits)
        if (corners[1] <= corners[0]).any():
            continue
        landmarks = ((row[5:15].reshape(5, 2) + 0.5) * scale - 0.5).astype(np.float32)
        found.append(Detection(tuple(corners.ravel().tolist()), float(row[4]), landmarks))
    return in_reading_order(found)
