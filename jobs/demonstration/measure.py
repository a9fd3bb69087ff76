"""What restoring the collection gained: PSNR, SSIM and NIQE of the faces before and after, per severity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jobs.demonstration.collection import Item
from operators.detect.align import similarity, template, warp
from operators.quality.niqe import Niqe

FACE = 256
"""Side in pixels at which faces are compared with the original: what the built-in enhancer gives."""

FEATURES = (slice(72, 200), slice(64, 192))
"""Rows and columns of that square with brows, eyes, nose and mouth: the part that a restored face replaces.
Around it the face fades into the photo, which is not restored."""

NIQE_FACE = 128
"""Side in pixels at which NIQE sees a face: what its built-in model was fitted to, and what a run reports."""


@dataclass(frozen=True)
class Quality:
    """psnr in dB, ssim up to 1, both against the original and higher is better; niqe: lower is better."""

    psnr: float
    ssim: float
    niqe: float


@dataclass(frozen=True)
class Comparison:
    """The mean over the faces of one severity."""

    severity: str
    faces: int
    before: Quality
    after: Quality


def compare(items: Iterable[Item], restored: Mapping[str, NDArray[np.uint8]], niqe: Niqe) -> list[Comparison]:
    """Compare each face of each item, before and after, with the same square of the original.

    restored: key to the restored photo, (H, W, 3) uint8 of the original's size. Where the faces are is known
    from the originals, so a face the detector missed counts too. Raises KeyError when a photo is missing.
    """
    measured: dict[str, list[tuple[Quality, Quality]]] = {}
    for item in items:
        for landmarks in item.original.faces:
            before = quality(item.degraded, item.original.pixels, landmarks, niqe)
            after = quality(restored[item.key], item.original.pixels, landmarks, niqe)
            measured.setdefault(item.severity, []).append((before, after))
    return [
        Comparison(severity, len(pairs), _mean(pair[0] for pair in pairs), _mean(pair[1] for pair in pairs))
        for severity, pairs in measured.items()
    ]


def quality(
    photo: NDArray[np.uint8], original: NDArray[np.uint8], landmarks: NDArray[np.float64], niqe: Niqe
) -> Quality:
    """How close the face with these landmarks (5, 2) is to the original's, and how natural it looks.

    photo, original: (H, W, 3) uint8 of the same size.
    """
    matrix = similarity(landmarks, template(FACE))
    face, truth = (warp(pixels, matrix, FACE)[FEATURES] for pixels in (photo, original))
    scored = warp(photo, similarity(landmarks, template(NIQE_FACE)), NIQE_FACE)
    return Quality(
        psnr=float(peak_signal_noise_ratio(truth, face, data_range=255)),
        ssim=float(structural_similarity(truth, face, channel_axis=2, data_range=255)),
        niqe=float(niqe.score(torch.from_numpy(scored).permute(2, 0, 1)[None].float() / 255)[0]),
    )


def table(comparisons: Iterable[Comparison]) -> str:
    """The comparisons as aligned text, before -> after in each column."""
    head = f"{'severity':<10}{'faces':>5}{'PSNR, dB':>18}{'SSIM':>18}{'NIQE':>18}"
    lines = [head, "-" * len(head)]
    for row in comparisons:
        before, after = row.before, row.after
        lines.append(
            f"{row.severity:<10}{row.faces:>5}"
            f"{f'{before.psnr:.2f} -> {after.psnr:.2f}':>18}"
            f"{f'{before.ssim:.3f} -> {after.ssim:.3f}':>18}"
            f"{f'{before.niqe:.2f} -> {after.niqe:.2f}':>18}"
        )
    return "\n".join(lines)


def _mean(qualities: Iterable[Quality]) -> Quality:
    values = np.array([(quality.psnr, quality.ssim, quality.niqe) for quality in qualities])
    return Quality(*(float(value) for value in values.mean(axis=0)))
