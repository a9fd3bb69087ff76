"""How good an enhancer is on faces it never saw, against bicubic enlargement; and a sheet to look at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.training.dr2_outputs import Dr2Outputs
from jobs.training.faces import halve
from operators.degrade.blur import ENHANCER_SIGMA, REFERENCE_SIZE, blur_batch
from operators.enhance.adapter import from_network, to_network
from operators.enhance.bicubic import BicubicEnhancer
from operators.enhance.contract import Enhancer
from operators.enhance.loss import ssim


def soft_versions(sharp: NDArray[np.uint8], outputs: Dr2Outputs) -> dict[str, NDArray[np.uint8]]:
    """Inputs to measure on, by kind: untouched, blurred by the middle of Eq. 12's range, DR2's output at each tau.

    sharp: (M, 2S, 2S, 3) uint8; outputs: Eq. 12's, each tau of every face, or none.
    """
    small = halve(sharp)
    sigma = float(np.mean(ENHANCER_SIGMA)) * small.shape[1] / REFERENCE_SIZE
    kinds = {"clean": small, "clean, blurred": _blurred(small, sigma)}
    for tau in np.unique(outputs.tau):
        these = np.flatnonzero(outputs.tau == tau)
        kinds[f"DR2, tau {tau}"] = outputs.images[these[np.argsort(outputs.rows[these])]]
    return kinds


def measure(
    enhancer: Enhancer, inputs: Mapping[str, NDArray[np.uint8]], sharp: NDArray[np.uint8]
) -> dict[str, dict[str, float]]:
    """PSNR (dB) and SSIM of `enhancer` and of bicubic enlargement for each kind of input.

    inputs: kind -> (M, S, S, 3) uint8, soft versions of `sharp` (M, 2S, 2S, 3) uint8.
    Returns kind -> {"psnr", "ssim", "psnr_bicubic", "ssim_bicubic", "faces"}, means over faces.
    """
    bicubic = BicubicEnhancer(enhancer.input_size, enhancer.output_size)
    figures = {}
    for kind, soft in inputs.items():
        psnr, similarity = _fidelity(enhancer.enhance(soft), sharp)
        psnr_bicubic, similarity_bicubic = _fidelity(bicubic.enhance(soft), sharp)
        figures[kind] = {
            "psnr": round(psnr, 2),
            "psnr_bicubic": round(psnr_bicubic, 2),
            "ssim": round(similarity, 4),
            "ssim_bicubic": round(similarity_bicubic, 4),
            "faces": len(sharp),
        }
    return figures


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The figures of :func:`measure` as a Markdown table."""
    lines = [
        "| input | PSNR bicubic | PSNR enhanced | SSIM bicubic | SSIM enhanced |",
        "|---|---|---|---|---|",
    ]
    for kind, row in figures.items():
        lines.append(
            f"| {kind} | {row['psnr_bicubic']:.2f} | {row['psnr']:.2f} "
            f"| {row['ssim_bicubic']:.4f} | {row['ssim']:.4f} |"
        )
    return "\n".join(lines)


def contact_sheet(
    enhancer: Enhancer, inputs: Mapping[str, NDArray[np.uint8]], sharp: NDArray[np.uint8], rows: int
) -> NDArray[np.uint8]:
    """One line a face: bicubic enlargement, enhanced, truth. The kinds of input take turns."""
    kinds = list(inputs.values())
    rows = min(rows, len(sharp))
    soft = np.stack([kinds[row % len(kinds)][row] for row in range(rows)])
    bicubic = BicubicEnhancer(enhancer.input_size, enhancer.output_size)
    columns = (bicubic.enhance(soft), enhancer.enhance(soft), sharp[:rows])
    return np.concatenate([np.concatenate(list(column)) for column in columns], axis=1)


def _blurred(faces: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return from_network(blur_batch(to_network(faces), np.full(len(faces), sigma)))


def _fidelity(images: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean PSNR in dB over all channels, and mean SSIM of luma, of (M, H, W, 3) uint8 batches."""
    error = ((images.astype(np.float64) - sharp) ** 2).mean(axis=(1, 2, 3))
    psnr = 10.0 * np.log10(255.0**2 / np.maximum(error, 1e-6))
    with torch.inference_mode():
        first, second = ((to_network(batch) + 1.0) / 2.0 for batch in (images, sharp))
        similarity = np.mean([float(ssim(a[None], b[None])) for a, b in zip(first, second, strict=True)])
    return float(psnr.mean()), float(similarity)
