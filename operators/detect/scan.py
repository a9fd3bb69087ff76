"""The scan: candidates from every tile of the pyramid, and a second opinion on each of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from operators.detect.network import STRIDES, FaceNetwork, cell_centres, decode, folded
from operators.detect.pyramid import Tile, tiles
from operators.detect.suppression import Candidates, concatenate, overlaps, suppress

CANDIDATE_SCORE = 0.3
"""Least score of a cell that may propose a face and vote on its box."""

OPINION_SIZES = (30.0, 44.0, 62.0)
"""Face sizes, sqrt(width * height) in pixels, at which a second opinion is asked."""

OPINION_SIDE = 96
"""Side of the crop it is asked about, a multiple of 32."""

AGREEMENT = 0.45
"""Least intersection over union with the expected box of a cell whose score counts as an opinion."""

BATCH = 32
"""Candidates looked at together, which bounds memory in a photo of a crowd."""

GREY = 127
"""Padding, the middle of the network's input range, as its convolutions pad."""


def to_network(pixels: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [-1, 1], channels last in memory."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)
    return images.float().div_(127.5).sub_(1.0).contiguous(memory_format=torch.channels_last)


class Scanner:
    """Runs the face network over a photo."""

    def __init__(self, network: FaceNetwork, device: torch.device) -> None:
        self.device = device
        self.network = folded(network).to(device).to(memory_format=torch.channels_last)

    def propose(self, photo: NDArray[np.uint8]) -> Candidates:
        """What looks like a face in some level of the pyramid, in photo pixels.

        A candidate within another stays: until they are confirmed, nobody knows which of the two is the face.
        """
        found = suppress(concatenate([self._scan(tile) for tile in tiles(photo)]), inside=1.0)
        height, width = photo.shape[:2]
        middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        inside: NDArray[np.bool_] = np.all((middles >= 0) & (middles < (width, height)), axis=1)
        return found.where(inside)

    def _scan(self, tile: Tile) -> Candidates:
        height, width = tile.pixels.shape[:2]
        padded = np.full((1, -height % 32 + height, -width % 32 + width, 3), GREY, np.uint8)
        padded[0, :height, :width] = tile.pixels
        found = []
        for output, stride in zip(self.network(to_network(padded, self.device)), STRIDES, strict=True):
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

    def confirm(self, photo: NDArray[np.uint8], found: Candidates) -> Candidates:
        """The candidates, each with the mean of the scan's score and box and of those at each of `OPINION_SIZES`.

        Each candidate is cut out at these sizes, with its mirror image, and the network asked again. A face is
        one at every size; what the scan mistook for a face, a hand or a fold, mostly is at one size only. Boxes
        are weighed by their squared scores.
        """
        if len(found) == 0:
            return found
        image = Image.fromarray(photo)
        # Twice, because an opinion is two views.
        scores, boxes = [found.scores] * 2, [found.boxes] * 2
        for size in OPINION_SIZES:
            batches = range(0, len(found), BATCH)
            opinions = [self._opinions(image, found.boxes[start : start + BATCH], size) for start in batches]
            scores += list(np.concatenate([score for score, _ in opinions], axis=1))
            boxes += list(np.concatenate([box for _, box in opinions], axis=1))
        weights = np.square(scores, dtype=np.float64)[..., None]
        mean_boxes = (weights * boxes).sum(axis=0) / weights.sum(axis=0)
        return Candidates(np.mean(scores, axis=0, dtype=np.float32), mean_boxes.astype(np.float32), found.landmarks)

    def _opinions(
        self, image: Image.Image, boxes: NDArray[np.float32], size: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (2, N) and boxes (2, N, 4) in photo pixels of faces expected at `boxes` (N, 4), shown at one size;
        first what the crop says, then what its mirror image does. A score of 0 has the expected box."""
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).astype(np.float64)
        steps = np.sqrt(sides.prod(axis=1)) / size
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        middle = np.full(2, (OPINION_SIDE - 1) / 2)
        corners = centres + 0.5 - steps[:, None] * OPINION_SIDE / 2
        crops = np.stack(
            [_square(image, x, y, step) for (x, y), step in zip(corners.tolist(), steps.tolist(), strict=True)]
        )
        # The expected box is centred, so that it is its own mirror image.
        half = sides / steps[:, None] / 2
        expected = np.tile(np.concatenate([middle - half, middle + half], axis=1), (2, 1)).astype(np.float32)
        best, seen = np.zeros(len(expected)), expected.astype(np.float64)
        outputs = self.network(to_network(np.concatenate([crops, crops[:, :, ::-1]]), self.device))
        for output, stride in zip(outputs, STRIDES, strict=True):
            logits, proposed, _ = decode(output, stride)
            scores, cells = torch.sigmoid(logits).flatten(1).cpu().numpy(), proposed.flatten(1, 2).cpu().numpy()
            for view, box in enumerate(expected):
                union, _ = overlaps(box, cells[view])
                agreed = np.where(union > AGREEMENT, scores[view], 0.0)
                cell = int(agreed.argmax())
                if agreed[cell] > best[view]:
                    best[view], seen[view] = agreed[cell], cells[view, cell]
        views = seen.reshape(2, -1, 4)
        views[1][:, [0, 2]] = OPINION_SIDE - 1 - views[1][:, [2, 0]]
        photo = (views + 0.5) * steps[:, None] + np.tile(corners, 2) - 0.5
        return best.reshape(2, -1).astype(np.float32), photo.astype(np.float32)


def _square(image: Image.Image, left: float, top: float, step: float) -> NDArray[np.uint8]:
    """OPINION_SIDE pixels square from (left, top), edges at integers, `step` photo pixels each; antialiased.

    Grey beyond the photo, as the scan sees it.
    """
    reach = step * OPINION_SIDE
    x0, y0 = math.floor(left) - 1, math.floor(top) - 1
    x1, y1 = math.ceil(left + reach) + 1, math.ceil(top + reach) + 1
    window = Image.new("RGB", (x1 - x0, y1 - y0), (GREY, GREY, GREY))
    inside = (max(0, x0), max(0, y0), min(image.width, x1), min(image.height, y1))
    window.paste(image.crop(inside), (inside[0] - x0, inside[1] - y0))
    area = (left - x0, top - y0, left - x0 + reach, top - y0 + reach)
    return np.asarray(window.resize((OPINION_SIDE, OPINION_SIDE), Image.Resampling.BILINEAR, box=area))
