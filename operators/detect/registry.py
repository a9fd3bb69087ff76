"""Detectors by the name a configuration gives them."""

from __future__ import annotations

import torch

from operators.detect.builtin import BuiltinDetector
from operators.detect.contract import Detector
from operators.detect.retinaface import RetinaFaceDetector


def load_detector(source: str, device: torch.device | str = "cpu") -> Detector:
    """ "builtin", "retinaface:FOLDER" (the folder of facexlib's weights), or a file of `dr2e train detector`.

    Raises WeightsError when the weights are missing, damaged or of another kind.
    """
    kind, _, folder = source.partition(":")
    if kind == "retinaface":
        return RetinaFaceDetector.load(folder, device)
    return BuiltinDetector.load(source, device)
