"""The built-in detector: our small network over an image pyramid, its landmarks refined on a second look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from operators.detect.contract import Detection, in_reading_order
from operators.detect.network import STRIDES, FaceNetwork, NetworkConfig, cell_centres, decode, folded
from operators.detect.pyramid import Tile, tiles
from operators.detect.suppression import Candidates, concatenate, overlaps, suppress
from operators.training.weights import load_weights, sha256_file
from operators.weights import resolve

SCORE = 0.5
"""Least score of a face."""

CANDIDATE_SCORE = 0.3
"""Least score of a cell that may vote on box and landmarks."""

LOOK_SIDE, LOOK_SIZE = 128, 56.0
"""The second look: a crop of LOOK_SIDE pixels in which the face's size, sqrt(width * height), is LOOK_SIZE."""

GREY = 127
"""Padding, the middle of the network's input range, as its convolutions pad."""


def to_network(pixels: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [-1, 1], channels last in memory."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)
    return images.float().div_(127.5).sub_(1.0).contiguous(memory_format=torch.channels_last)


class BuiltinDetector:
    """Finds faces from about 12 pixels to the whole photo, a `Detector`.

    The network knows sizes of about 9 to 112 pixels; every photo is scanned at full size (its longest side
    limited to `pyramid.LONGEST_SIDE`), at half, at a quarter and so on, in overlapping tiles, so memory is bounded
    by the tile. Photos are looked at one by one: a photo's faces do not depend on its batch.
    """

    name = "builtin"

    def __init__(self, network: FaceNetwork, fingerprint: str, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.network = folded(network).to(self.device, memory_format=torch.channels_last)
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, source: str = "builtin", device: torch.device | str = "cpu") -> BuiltinDetector:
        """The shipped weights ("builtin") or a file of `dr2e train detector`; WeightsError names what is wrong."""
        path = resolve(source, "detector")
        state, description = load_weights(path, "detector")
        network = FaceNetwork(NetworkConfig.from_json(description["network"]))
        network.load_state_dict(state)
        return cls(network, sha256_file(path), device)

    @torch.inference_mode()
    def detect(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces of each photo (H, W, 3) uint8 RGB, ordered by (x0, y0); an empty list where there is none."""
        return [self._detect(photo) for photo in photos]

    def _detect(self, photo: NDArray[np.uint8]) -> list[Detection]:
        found = suppress(concatenate([self._propose(tile) for tile in tiles(photo)]))
        found = found.where(found.scores >= SCORE)
        found = suppress(self._look_again(photo, found))
        height, width = photo.shape[:2]
        limits = np.array([width, height, width, height], np.float32)
        return in_reading_order(
            [
                Detection(tuple(np.clip(box, 0, limits).tolist()), float(score), landmarks)
                for score, box, landmarks in zip(found.scores, found.boxes, found.landmarks, strict=True)
            ]
        )

    def _propose(self, tile: Tile) -> Candidates:
        """Candidates of the tile's core, in photo pixels."""
        height, width = tile.pixels.shape[:2]
        padded = np.full((1, -height % 32 + height, -width % 32 + width, 3), GREY, np.uint8)
        padded[0, :height, :width] = tile.pixels
        found = []
        for output, stride in zip(self.network(to_network(padded, self.device)), STRIDES, strict=True):
            logits, boxes, landmarks = decode(output, stride)
            scores = torch.sigmoid(logits[0])
            centres = cell_centres(*scores.shape, stride, scores.device)
            x0, y0, x1, y1 = tile.core
            wanted = (scores >= CANDIDATE_SCORE) & (centres[..., 0] >= x0) & (centres[..., 0] < x1)
            wanted &= (centres[..., 1] >= y0) & (centres[..., 1] < y1)
            corners = boxes[0][wanted].cpu().numpy().reshape(-1, 2, 2)
            found.append(
                Candidates(
                    scores[wanted].cpu().numpy(),
                    tile.to_photo(corners).reshape(-1, 4),
                    tile.to_photo(landmarks[0][wanted].cpu().numpy()),
                )
            )
        return concatenate(found)

    def _look_again(self, photo: NDArray[np.uint8], found: Candidates) -> Candidates:
        """The same faces with boxes and landmarks measured anew, each alone, centred and at the best size.

        Crop and mirror image vote; a face that is not seen again keeps what the scan found.
        """
        if len(found) == 0:
            return found
        image = Image.fromarray(photo)
        sizes = np.sqrt((found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1))
        steps = sizes / LOOK_SIZE
        corners = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 + 0.5 - steps[:, None] * LOOK_SIDE / 2
        crops = np.stack([_crop(image, corner, float(step)) for corner, step in zip(corners, steps, strict=True)])
        boxes, landmarks = found.boxes.copy(), found.landmarks.copy()
        views = np.stack([crops, crops[:, :, ::-1]], axis=1)
        for face, pair in enumerate(views):
            seen = self._measure(pair, (found.boxes[face].reshape(2, 2) + 0.5 - corners[face]) / steps[face] - 0.5)
            if seen is not None:
                boxes[face] = ((seen[0] + 0.5) * steps[face] + corners[face] - 0.5).reshape(4)
                landmarks[face] = (seen[1] + 0.5) * steps[face] + corners[face] - 0.5
        return Candidates(found.scores, boxes, landmarks)

    def _measure(
        self, views: NDArray[np.uint8], expected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Corners (2, 2) and landmarks (5, 2) in the crop of the face at `expected` (2, 2), or None.

        views: (2, S, S, 3), the crop and its mirror image.
        """
        scores, boxes, points = [], [], []
        for output, stride in zip(self.network(to_network(views, self.device)), STRIDES, strict=True):
            logits, corners, landmarks = decode(output, stride)
            scores.append(torch.sigmoid(logits).flatten(1))
            boxes.append(corners.flatten(1, 2))
            points.append(landmarks.flatten(1, 2))
        score = torch.cat(scores, 1).cpu().numpy()
        box = torch.cat(boxes, 1).cpu().numpy()
        point = torch.cat(points, 1).cpu().numpy()
        # Undo the mirror: x runs backwards, and the viewer's left and right change places.
        last = views.shape[2] - 1
        box[1] = np.stack([last - box[1, :, 2], box[1, :, 1], last - box[1, :, 0], box[1, :, 3]], axis=-1)
        point[1, :, :, 0] = last - point[1, :, :, 0]
        point[1] = point[1][:, (1, 0, 2, 4, 3)]
        flat_score, flat_box = score.reshape(-1), box.reshape(-1, 4)
        union, _ = overlaps(expected.reshape(4), flat_box)
        voters = (flat_score >= CANDIDATE_SCORE) & (union > 0.5)
        if not voters.any():
            return None
        weight = flat_score[voters].astype(np.float64) ** 2
        weight /= weight.sum()
        corners_mean = np.tensordot(weight, flat_box[voters], 1).reshape(2, 2)
        points_mean = np.tensordot(weight, point.reshape(-1, 5, 2)[voters], 1)
        return corners_mean.astype(np.float32), points_mean.astype(np.float32)


def _crop(image: Image.Image, corner: NDArray[np.float32], step: float) -> NDArray[np.uint8]:
    """LOOK_SIDE pixels square from `corner` (edges at integers), `step` photo pixels each, antialiased."""
    reach = step * LOOK_SIDE
    x0, y0 = float(corner[0]), float(corner[1])
    left, top = int(np.floor(x0)) - 1, int(np.floor(y0)) - 1
    right, bottom = int(np.ceil(x0 + reach)) + 1, int(np.ceil(y0 + reach)) + 1
    window = Image.new("RGB", (right - left, bottom - top), (GREY, GREY, GREY))
    inside = (max(0, left), max(0, top), min(image.width, right), min(image.height, bottom))
    window.paste(image.crop(inside), (inside[0] - left, inside[1] - top))
    area = (x0 - left, y0 - top, x0 - left + reach, y0 - top + reach)
    return np.asarray(window.resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BILINEAR, box=area))
