"""RetinaFace (Deng et al., 2020) as packaged by facexlib, for those who have its weights.

facexlib is an optional dependency and its weights are a download of their own; neither is needed to import
this module, and nothing here ever downloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from operators.detect.contract import Detection, in_reading_order
from operators.training.weights import WeightsError, sha256_file, tensors_only

WEIGHTS = "detection_Resnet50_Final.pth"
"""The file facexlib looks for."""

LONGEST_SIDE = 2150
"""Larger photos are looked at shrunken to this side, facexlib's limit, which also bounds memory."""

SCORE = 0.8
"""Least score of a face, facexlib's default."""


class FacexlibModel(Protocol):
    """The one method of facexlib's network that is used here."""

    def detect_faces(self, image: NDArray[np.uint8], conf_threshold: float) -> NDArray[np.float32]:
        """Photo (H, W, 3) uint8 BGR to rows of (x0, y0, x1, y1, score, five x and y)."""
        ...


class RetinaFaceDetector:
    """facexlib's `retinaface_resnet50` behind the `Detector` contract."""

    name = "retinaface"

    def __init__(self, model: FacexlibModel, fingerprint: str) -> None:
        self.model = model
        self.fingerprint = fingerprint

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> RetinaFaceDetector:
        """The network with the weights in `folder`.

        Raises WeightsError when facexlib is not installed or `folder` lacks its file, or the file is not its.
        """
        path = Path(folder) / WEIGHTS
        if not path.is_file():
            raise WeightsError(f"RetinaFace weights not found: {path}; put facexlib's file there, or use 'builtin'")
        try:
            from facexlib.detection import init_detection_model
        except ImportError as error:
            raise WeightsError("RetinaFace needs facexlib: pip install 'dr2e[retinaface]', or use 'builtin'") from error
        try:
            with tensors_only():
                model = init_detection_model("retinaface_resnet50", device=str(device), model_rootpath=str(folder))
        except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
            raise WeightsError(f"not RetinaFace weights: {path} ({type(error).__name__}: {error})") from error
        return cls(model, sha256_file(path))

    @torch.inference_mode()
    def detect(self, photos: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """Faces of each photo (H, W, 3) uint8 RGB, ordered by (x0, y0)."""
        return [self._detect(photo) for photo in photos]

    def _detect(self, photo: NDArray[np.uint8]) -> list[Detection]:
        height, width = photo.shape[:2]
        image = Image.fromarray(photo)
        factor = min(1.0, LONGEST_SIDE / max(height, width))
        if factor < 1.0:
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            image = image.resize(size, Image.Resampling.BOX)
        bgr = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
        rows = self.model.detect_faces(bgr, conf_threshold=SCORE)
        scale = np.array([width / image.width, height / image.height], np.float32)
        limits = np.array([width, height], np.float32)
        found = []
        for row in rows:
            corners = np.clip((row[:4].reshape(2, 2) + 0.5) * scale - 0.5, 0, limits)
            landmarks = ((row[5:15].reshape(5, 2) + 0.5) * scale - 0.5).astype(np.float32)
            found.append(Detection(tuple(corners.ravel().tolist()), float(row[4]), landmarks))
        return in_reading_order(found)
