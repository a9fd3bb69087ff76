"""DR2's outputs on clean faces: the slow half of Eq. 12, made once and kept in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import sample, start_step
from operators.enhance.builtin import from_network, to_network

PAIR_N = 4
PAIR_TAUS = (50, 100, 150, 200)
"""Eq. 12: the low-pass scale, and tau in timesteps of the schedule the prior was trained with."""

_STEPS = 100  # of the respaced schedule

Remove = Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.uint8]]
"""(B, S, S, 3) uint8 faces and their keys -> (B, T, S, S, 3) uint8, DR2's output at each of T values of tau."""


@dataclass(frozen=True)
class Dr2Outputs:
    """DR2's outputs on some of a list of faces.

    Attributes:
        rows: (M,) int64, which face of the list each row is.
        images: (M, T, S, S, 3) uint8, one output per tau.
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def none(size: int) -> Dr2Outputs:
        """No outputs, for faces of `size` px."""
        return Dr2Outputs(np.zeros(0, np.int64), np.zeros((0, 0, size, size, 3), np.uint8))


def eq12_remover(prior: Prior, seed: int) -> Remove:
    """DR2(x; N = 4, tau) at every tau of Eq. 12, one trajectory a face; noise depends on seed and key."""
    schedule = prior.schedule.respaced(_STEPS)
    taus = [schedule.step_of(tau) for tau in PAIR_TAUS]
    omega = start_step(PAIR_N, max(taus), _STEPS)

    def remove(faces: NDArray[np.uint8], keys: Sequence[str]) -> NDArray[np.uint8]:
        noise = [FaceNoise(seed, key, 0) for key in keys]
        found = sample(prior, schedule, to_network(faces), n=PAIR_N, omega=omega, taus=taus, noise=noise)
        return np.stack([from_network(found[tau]) for tau in taus], axis=1)

    return remove


def make_outputs(
    folder: Path,
    keys: Sequence[str],
    faces: NDArray[np.uint8],
    remove: Remove,
    *,
    count: int,
    seed: int,
    chunk: int = 16,
    say: Callable[[str], None] = print,
) -> Dr2Outputs:
    """Run `remove` on up to `count` of `faces`, drawn by `seed`; what `folder` already holds is read back.

    faces: (K, S, S, 3) uint8; keys: their names. Every `chunk` faces one file is written and renamed into
    place, so a kill costs one chunk at most. The folder must belong to one prior and one set of settings:
    let its name say which.
    Raises ValueError when a file there holds other faces than the ones asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(seed).permutation(len(faces))[:count]
    parts = []
    for number, start in enumerate(range(0, len(chosen), chunk)):
        rows = chosen[start : start + chunk]
        names = [keys[row] for row in rows]
        path = folder / f"{number:04d}.npz"
        if not path.exists():
            _write(path, names, remove(faces[rows], names))
            say(f"DR2 outputs: {start + len(rows)} of {len(chosen)} faces")
        parts.append(_read(path, names))
    return Dr2Outputs(chosen, np.concatenate(parts)) if parts else Dr2Outputs.none(faces.shape[1])


def _write(path: Path, keys: Sequence[str], images: NDArray[np.uint8]) -> None:
    beside = path.with_suffix(".writing")
    with beside.open("wb") as file:
        np.savez(file, keys=np.array(keys), images=images)
    os.replace(beside, path)


def _read(path: Path, keys: Sequence[str]) -> NDArray[np.uint8]:
    with np.load(path) as stored:
        if list(stored["keys"]) != list(keys):
            raise ValueError(f"{path} holds DR2 outputs of other faces; delete its folder or change --out")
        images: NDArray[np.uint8] = stored["images"]
        return images
