"""What an input face tells about its own degradation, before any network runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from operators.degrade.blur import blur_matrix
from operators.quality.niqe import Niqe

_FINE, _COARSE = 1 / 128, 2 / 128  # low-pass sigmas that bound the two finest octaves, as fractions of the side


@dataclass(frozen=True)
class Appearance:
    """Numbers of one face.

    niqe: its NIQE; lower is more natural, inf when it cannot be measured.
    balance: log2 of the finest octave's RMS over the next one's. Near 0 for a sharp face (natural images hold about
        as much in each octave), below -0.5 when blurred or enlarged, above 0.5 when fine noise covers it.
    grain: robust deviation of the finest octave in grey levels, which edges hardly raise and noise does.
    """

    niqe: float
    balance: float
    grain: float


@torch.no_grad()
def appearances(faces: Tensor, niqe: Niqe) -> list[Appearance]:
    """The numbers of each face. faces: (B, 3, S, S) RGB in [0, 1]."""
    size = faces.shape[-1]
    weights = torch.tensor((0.299, 0.587, 0.114), dtype=torch.float64, device=faces.device)
    luma = torch.einsum("c,bchw->bhw", weights, faces.double()) * 255
    fine, coarse = (torch.from_numpy(blur_matrix(size, sigma * size)).to(faces.device) for sigma in (_FINE, _COARSE))
    softer, softest = fine @ luma @ fine.T, coarse @ luma @ coarse.T
    octave, next_octave = (luma - softer).flatten(1), (softer - softest).flatten(1)
    # a thousandth of a grey level keeps a flat face's balance at 0 instead of NaN
    balance = torch.log2((_rms(octave) + 1e-3) / (_rms(next_octave) + 1e-3))
    grain = 1.4826 * octave.abs().median(dim=1).values
    numbers = zip(niqe.score(faces), balance.tolist(), grain.tolist(), strict=True)
    return [Appearance(float(score), of_balance, of_grain) for score, of_balance, of_grain in numbers]


def _rms(values: Tensor) -> Tensor:
    return values.square().mean(dim=1).sqrt()
