"""The built-in detector: one small network scans an image pyramid, another places the landmarks of each face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.detect.align import invert, warp
from operators.detect.contract import Detection, in_reading_order
from operators.detect.landmarks import CLOSE_UP, LandmarkNetwork, View, positions, upright_view, view_of_box
from operators.detect.network import FaceNetwork, NetworkConfig, folded
from operators.detect.scan import Scanner, to_network
from operators.detect.suppression import Candidates, on_grid, suppress
from operators.training.weights import WeightsError, load_weights, sha256_file
from operators.weights import resolve

PROPOSAL_SCORE = 0.4
"""Least score in the scan of what is looked at again."""

SCORE = 0.6
"""Least score of a face after the second opinion."""

FLIPPED = (1, 0, 2, 4, 3)
"""Landmark order after a mirror: the viewer's left and right change places."""


class BuiltinDetector:
    """Finds faces from about 12 pixels to the whole photo, a `Detector`.

    The scanning network knows sizes of about 9 to 112 pixels; every photo is scanned at full size (its longest
    side limited to `pyramid.LONGEST_SIDE`), at half, at a quarter and so on, in overlapping tiles, so memory is
    bounded by the tile. What it proposes is confirmed at three sizes, and the landmark network places the
    landmarks of what remains. Photos are looked at one by one: a photo's faces do not depend on its batch.
    """

    name = "builtin"
    together = 1

    def __init__(
        self,
        scan: FaceNetwork,
        landmarks: LandmarkNetwork,
        fingerprint: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.scanner = Scanner(scan, self.device)
        self.landmarks = folded(landmarks).to(self.device).to(memory_format=torch.channels_last)
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, source: str = "builtin", device: torch.device | str = "cpu") -> BuiltinDetector:
        """The shipped weights ("builtin") or a file of `dr2e train detector`; WeightsError names what is wrong."""
        path = resolve(source, "detector")
        state, description = load_weights(path, "detector")
        try:
            scan, landmarks = FaceNetwork(NetworkConfig.from_json(description["network"])), LandmarkNetwork()
            scan.load_state_dict(_part(state, "scan."))
            landmarks.load_state_dict(_part(state, "landmarks."))
        except (KeyError, TypeError, RuntimeError) as error:
            raise WeightsError(f"{path} was made by another version of the detector; train it again") from error
        return cls(scan, landmarks, sha256_file(path), device)

    @torch.inference_mode()
    def detect(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces of each photo (H, W, 3) uint8 RGB, ordered by (x0, y0); an empty list where there is none."""
        return [self._detect(photo) for photo in photos]

    def _detect(self, photo: NDArray[np.uint8]) -> list[Detection]:
        found = self.scanner.propose(photo)
        found = found.where(found.scores >= PROPOSAL_SCORE).on_grid()
        found = self.scanner.confirm(photo, found)
        found = suppress(found.where(found.scores >= SCORE)).on_grid()
        height, width = photo.shape[:2]
        limits = np.array([width, height, width, height], np.float32)
        return in_reading_order(
            [
                Detection(tuple(np.clip(box, 0, limits).tolist()), float(score), points)
                for score, box, points in zip(found.scores, found.boxes, self._place(photo, found), strict=True)
            ]
        )

    def _place(self, photo: NDArray[np.uint8], found: Candidates) -> NDArray[np.float32]:
        """Landmarks (N, 5, 2) from a close-up of each face, taken twice: the second time with the head upright."""
        if len(found) == 0:
            return found.landmarks
        views = [
            upright_view(view_of_box(box), points) for box, points in zip(found.boxes, found.landmarks, strict=True)
        ]
        first = on_grid(self._look(photo, views))
        views = [upright_view(view, points) for view, points in zip(views, first, strict=True)]
        return on_grid((first + self._look(photo, views)) / 2)

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
