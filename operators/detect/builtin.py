"""The built-in detector: a small network scans an image pyramid, a second one places the landmarks of each face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.detect.align import invert, warp
from operators.detect.contract import Detection, in_reading_order
from operators.detect.landmarks import CLOSE_UP, LandmarkNetwork, View, positions, upright_view, view_of_box
from operators.detect.network import STRIDES, FaceNetwork, NetworkConfig, cell_centres, decode, folded
from operators.detect.pyramid import Tile, tiles
from operators.detect.suppression import Candidates, concatenate, suppress
from operators.training.weights import WeightsError, load_weights, sha256_file
from operators.weights import resolve

SCORE = 0.5
"""Least score of a face."""

CANDIDATE_SCORE = 0.3
"""Least score of a cell that may vote on box and landmarks."""

GREY = 127
"""Padding, the middle of the network's input range, as its convolutions pad."""

FLIPPED = (1, 0, 2, 4, 3)
"""Landmark order after a mirror: the viewer's left and right change places."""


def to_network(pixels: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [-1, 1], channels last in memory."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)
    return images.float().div_(127.5).sub_(1.0).contiguous(memory_format=torch.channels_last)


class BuiltinDetector:
    """Finds faces from about 12 pixels to the whole photo, a `Detector`.

    The scanning network knows sizes of about 9 to 112 pixels; every photo is scanned at full size (its longest side
    limited to `pyramid.LONGEST_SIDE`), at half, at a quarter and so on, in overlapping tiles, so memory is bounded
    by the tile. Each face found is cut out at one size, and the landmark network places its landmarks. Photos
    are looked at one by one: a photo's faces do not depend on its batch.
    """

    name = "builtin"

    def __init__(
        self,
        scan: FaceNetwork,
        landmarks: LandmarkNetwork,
        fingerprint: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.scan = folded(scan).to(self.device).to(memory_format=torch.channels_last)
        self.landmarks = folded(landmarks).to(self.device).to(memory_format=torch.channels_last)
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, source: str = "builtin", device: torch.device | str = "cpu") -> BuiltinDetector:
        """The shipped weights ("builtin") or a file of `dr2e train detector`; WeightsError names what is wrong."""
        path = resolve(source, "detector")
        state, description = load_weights(path, "detector")
        scan, landmarks = FaceNetwork(NetworkConfig.from_json(description["network"])), LandmarkNetwork()
        try:
            scan.load_state_dict(_part(state, "scan."))
            landmarks.load_state_dict(_part(state, "landmarks."))
        except RuntimeError as error:
            raise WeightsError(f"{path} was made by another version of the detector; train it again") from error
        return cls(scan, landmarks, sha256_file(path), device)

    @torch.inference_mode()
    def detect(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces of each photo (H, W, 3) uint8 RGB, ordered by (x0, y0); an empty list where there is none."""
        return [self._detect(photo) for photo in photos]

    def _detect(self, photo: NDArray[np.uint8]) -> list[Detection]:
        found = suppress(concatenate([self._propose(tile) for tile in tiles(photo)]))
        found = found.where(found.scores >= SCORE)
        height, width = photo.shape[:2]
        limits = np.array([width, height, width, height], np.float32)
        return in_reading_order(
            [
                Detection(tuple(np.clip(box, 0, limits).tolist()), float(score), points)
                for score, box, points in zip(found.scores, found.boxes, self._place(photo, found), strict=True)
            ]
        )

    def _propose(self, tile: Tile) -> Candidates:
        """Candidates of the tile's core, in photo pixels."""
        height, width = tile.pixels.shape[:2]
        padded = np.full((1, -height % 32 + height, -width % 32 + width, 3), GREY, np.uint8)
        padded[0, :height, :width] = tile.pixels
        found = []
        for output, stride in zip(self.scan(to_network(padded, self.device)), STRIDES, strict=True):
            logits, boxes, landmarks = decode(output, stride)
            scores = torch.sigmoid(logits[0])
            centres = cell_centres(scores.shape[0], scores.shape[1], stride, scores.device)
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

    def _place(self, photo: NDArray[np.uint8], found: Candidates) -> NDArray[np.float32]:
        """Landmarks (N, 5, 2) from a close-up of each face, taken twice: the second time with the head upright."""
        if len(found) == 0:
            return found.landmarks
        views = [
            upright_view(view_of_box(box), points) for box, points in zip(found.boxes, found.landmarks, strict=True)
        ]
        first = self._look(photo, views)
        views = [upright_view(view, points) for view, points in zip(views, first, strict=True)]
        return self._look(photo, views)

    def _look(self, photo: NDArray[np.uint8], views: Sequence[View]) -> NDArray[np.float32]:
        """Landmarks (N, 5, 2) in photo pixels, the mean of what a close-up and its mirror image say."""
        crops = np.stack([warp(photo, invert(view.matrix), CLOSE_UP) for view in views])
        pairs = np.concatenate([crops, crops[:, :, ::-1]])
        points = positions(self.landmarks(to_network(pairs, self.device))).cpu().numpy()
        straight, mirrored = points[: len(crops)], points[len(crops) :, FLIPPED]
        mirrored[..., 0] = CLOSE_UP - 1 - mirrored[..., 0]
        seen = (straight + mirrored) / 2
        return np.stack([view.to_photo(face) for view, face in zip(views, seen, strict=True)]).astype(np.float32)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
