"""Labelled faces from WebDataset shards: a photo, and beside it a JSON with five landmarks and a box."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from operators.detect.align import align
from operators.images import ImageLimits, decode
from pipeline.inputs import InputError, resolve_inputs
from pipeline.shards import read_samples


@dataclass(frozen=True)
class LabelledPhoto:
    """A training photo.

    Attributes:
        key: its WebDataset key.
        pixels: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) float32 pixels (eyes, nose, mouth corners; the viewer's left first), or None.
        box: (x0, y0, x1, y1) of the face in pixels, or None.
    """

    key: str
    pixels: NDArray[np.uint8]
    landmarks: NDArray[np.float32] | None
    box: tuple[float, float, float, float] | None


def load_labelled(urls: Iterable[str], options: Mapping[str, Any] | None = None) -> Iterator[LabelledPhoto]:
    """Decode every photo of the shards, in shard order.

    The JSON member of a sample may hold ``landmarks5`` (five x, y pairs) and ``box``; a photo without
    them comes back with None, because it may still hold a face nobody labelled.
    """
    limits = ImageLimits()
    for shard in resolve_inputs(list(urls), dict(options or {})):
        for sample in read_samples(shard.url, dict(options or {})):
            sidecars = [data for name, data in sample.members if name.lower().endswith(".json")]
            label = json.loads(sidecars[0]) if sidecars else {}
            landmarks = label.get("landmarks5")
            yield LabelledPhoto(
                key=sample.key,
                pixels=decode(sample.image[1], limits).pixels,
                landmarks=None if landmarks is None else np.asarray(landmarks, np.float32),
                box=None if label.get("box") is None else tuple(label["box"]),
            )


def aligned_faces(photos: Iterable[LabelledPhoto], size: int) -> tuple[list[str], NDArray[np.uint8]]:
    """Align every labelled face to the FFHQ template: keys, and (M, size, size, 3) uint8 crops.

    Raises InputError when no photo carries landmarks.
    """
    keys, crops = [], []
    for photo in photos:
        if photo.landmarks is not None:
            keys.append(photo.key)
            crops.append(align(photo.pixels, photo.landmarks, size)[0])
    if not crops:
        raise InputError("no sample has a JSON with landmarks5; training needs aligned faces")
    return keys, np.stack(crops)


def halve(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(B, 2S, 2S, 3) uint8 -> (B, S, S, 3) uint8, antialiased bicubic, as alignment at S px cuts them."""
    tensor = torch.from_numpy(faces).permute(0, 3, 1, 2).float()
    small = F.interpolate(tensor, scale_factor=0.5, mode="bicubic", antialias=True)
    return small.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
