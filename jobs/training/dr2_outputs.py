"""DR2's outputs on training faces: the slow half of the enhancer's pairs, made once and kept in a folder."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.training.faces import halve
from operators.degrade.classical import draw_any
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import sample, start_step
from operators.enhance.adapter import from_network, to_network
from operators.pairs.recipes import EQ12_TAUS
from operators.quality.selection import Chain

_STEPS = 100  # of the respaced schedule


def eq12_chain() -> Chain:
    """The chain whose x0_hat are Eq. 12's DR2(x; N = 4, tau), tau in EQ12_TAUS."""
    taus = tuple(tau * _STEPS // 1000 for tau in EQ12_TAUS)
    return Chain(4, start_step(4, max(taus), _STEPS), taus)


CHAINS = ((Chain(1, 16, (1, 2, 4, 6, 8, 12, 16)), 0.75), (Chain(4, 28, (4, 8, 12, 16)), 0.25))
"""(chain, share) that degraded faces go through: the policy's chains when the shipped enhancer was trained, kept apart
from it so that a new policy does not change what the command in the enhancer's card makes."""


@dataclass(frozen=True)
class Recipe:
    """What goes into DR2, and through which chain, drawn per face.

    undegraded: share of faces that go in as they are, through Eq. 12's chain; the others are degraded by Eq. 13
    and go through one of `chains` (DR2's chain, share of the degraded faces), so that the enhancer meets in training
    what a run will hand it.
    """

    undegraded: float
    chains: tuple[tuple[Chain, float], ...] = CHAINS

    def draw(self, rng: np.random.Generator) -> tuple[Chain, bool]:
        """(chain, whether the face is degraded first)."""
        if rng.random() < self.undegraded:
            return eq12_chain(), False
        shares = np.array([share for _, share in self.chains])
        return self.chains[int(rng.choice(len(shares), p=shares / shares.sum()))][0], True


TRAINING = Recipe(undegraded=0.15)
EQ12 = Recipe(undegraded=1.0)


@dataclass(frozen=True)
class Dr2Outputs:
    """DR2's outputs on a list of faces.

    Attributes:
        rows: (M,) int64, which face of the list each output shows.
        images: (M, S, S, 3) uint8.
        n, tau: (M,) int64, the chain's low-pass scale and the timestep (of T = 1000) of the output.
        degraded: (M,) bool, whether Eq. 13 came first.
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]
    n: NDArray[np.int64]
    tau: NDArray[np.int64]
    degraded: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def none(size: int) -> Dr2Outputs:
        """No outputs, for faces of `size` px."""
        empty = np.zeros(0, np.int64)
        return Dr2Outputs(empty, np.zeros((0, size, size, 3), np.uint8), empty, empty, empty.astype(bool))

    @staticmethod
    def joined(parts: Sequence[Dr2Outputs]) -> Dr2Outputs:
        """All of `parts`, at least one, in order."""
        names = ("rows", "images", "n", "tau", "degraded")
        return Dr2Outputs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


Remove = Callable[[NDArray[np.uint8], Sequence[str]], Dr2Outputs]
"""(B, 2S, 2S, 3) uint8 sharp faces and their keys -> DR2's outputs at S px; rows count within the batch."""


def remover(prior: Prior, recipe: Recipe, seed: int) -> Remove:
    """Runs `recipe`; chain, degradation and noise of a face follow from seed and key, never from its companions."""
    schedule = prior.schedule.respaced(_STEPS)

    def run(chain: Chain, faces: NDArray[np.uint8], keys: Sequence[str]) -> dict[int, NDArray[np.uint8]]:
        """tau step -> (B, S, S, 3); at N = 1 nothing survives a step (see Chain), so each tau is one step."""
        noise = [FaceNoise(seed, key, 0) for key in keys]
        legs = [(tau, [tau]) for tau in chain.taus] if chain.n == 1 else [(chain.omega, list(chain.taus))]
        found: dict[int, NDArray[np.uint8]] = {}
        for omega, taus in legs:
            images = sample(prior, schedule, to_network(faces), n=chain.n, omega=omega, taus=taus, noise=noise)
            found |= {tau: from_network(image) for tau, image in images.items()}
        return found

    def remove(sharp: NDArray[np.uint8], keys: Sequence[str]) -> Dr2Outputs:
        drawn: list[tuple[Chain, bool]] = []
        inputs = []
        for face, key in zip(sharp, keys, strict=True):
            rng = np.random.default_rng((seed, zlib.crc32(key.encode())))
            drawn.append(recipe.draw(rng))
            inputs.append(draw_any(rng, len(face)).apply(face, rng) if drawn[-1][1] else face)
        small = halve(np.stack(inputs))
        parts = []
        for what in sorted(set(drawn), key=str):
            chain, degraded = what
            rows = np.flatnonzero([other == what for other in drawn])
            for tau, images in sorted(run(chain, small[rows], [keys[int(row)] for row in rows]).items()):
                same = np.ones(len(rows), np.int64)
                parts.append(
                    Dr2Outputs(rows, images, chain.n * same, tau * 1000 // _STEPS * same, np.full(len(rows), degraded))
                )
        return Dr2Outputs.joined(parts)

    return remove


def make_outputs(
    folder: Path,
    keys: Sequence[str],
    sharp: NDArray[np.uint8],
    remove: Remove,
    *,
    count: int,
    seed: int,
    chunk: int = 32,
    say: Callable[[str], None] = print,
) -> Dr2Outputs:
    """Run `remove` on up to `count` of the faces, drawn by `seed`; what `folder` already holds is read back.

    sharp: (K, 2S, 2S, 3) uint8; keys: their names. Every `chunk` faces one file is written and renamed into
    place, so a kill costs one chunk at most, and two processes may share the work. The folder must belong to one
    prior and one set of settings: let its name say which.
    Raises ValueError when a file there holds other faces than the ones asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(seed).permutation(len(sharp))[:count]
    parts = []
    for number, start in enumerate(range(0, len(chosen), chunk)):
        rows = chosen[start : start + chunk]
        names = [keys[row] for row in rows]
        path = folder / f"{number:04d}.npz"
        if not path.exists():
            _write(path, names, remove(sharp[rows], names))
            say(f"DR2 outputs: {start + len(rows)} of {len(chosen)} faces")
        parts.append(_read(path, names, rows))
    return Dr2Outputs.joined(parts) if parts else Dr2Outputs.none(sharp.shape[1] // 2)


def _write(path: Path, keys: Sequence[str], outputs: Dr2Outputs) -> None:
    beside = path.with_suffix(f".writing-{os.getpid()}")
    with beside.open("wb") as file:
        np.savez(file, keys=np.array(keys), **vars(outputs))
    os.replace(beside, path)


def _read(path: Path, keys: Sequence[str], rows: NDArray[np.int64]) -> Dr2Outputs:
    """The outputs in `path`, their rows counted in the whole list, of which `rows` are this file's."""
    with np.load(path) as stored:
        if list(stored["keys"]) != list(keys):
            raise ValueError(f"{path} holds DR2 outputs of other faces; delete its folder or change --out")
        columns = {name: stored[name] for name in ("images", "n", "tau", "degraded")}
        return Dr2Outputs(rows[stored["rows"]], **columns)
