"""From good faces to pairs, many at once: all of a face's pairs that need DR2 come from one trajectory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from operators.degrade.blur import blur
from operators.degrade.steps import resize, to_uint8
from operators.dr2.engine import Engine, Trajectory
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior
from operators.dr2.sampler import Walk, start_step, visited
from operators.pairs.draws import Address
from operators.pairs.recipes import Dr2, Draw, Mixture, RecipeError
from operators.restoration import STEP, unit_range

Pixels = NDArray[np.uint8]

_STEPS = 100  # of the respaced schedule


@dataclass(frozen=True)
class Low:
    """The low-quality side of a pair: its image, (S, S, 3) uint8, and the draw it was made with."""

    image: Pixels
    draw: Draw


@dataclass(frozen=True)
class Lows:
    """The pairs of one face, and the evaluations of the network that all of them together cost."""

    pairs: tuple[Low, ...]
    evaluations: int


class PairMaker:
    """Makes the low-quality sides of pairs. size: of their images, pixels."""

    def __init__(self, size: int, prior: Prior | None = None, *, seed: int = 0, batch: int = 16) -> None:
        """prior: for draws of "dr2", which come at its size; so `size` is its size then. seed: of the run. batch: faces
        on their way at once; decides no result. Raises RecipeError for a size that is not the prior's."""
        if prior is not None and prior.size != size:
            raise RecipeError(f"dr2 gives faces of {prior.size} px with this prior, not of {size}")
        self.size, self.prior, self.seed = size, prior, seed
        self.engine = None
        if prior is not None:
            self.engine = Engine(prior, prior.schedule.respaced(len(prior.schedule) // STEP), slots=batch)

    def make(
        self,
        faces: Sequence[Pixels],
        identities: Sequence[tuple[str, int]],
        mixture: Mixture,
        pairs: int,
        on_step: Callable[[], None] | None = None,
    ) -> list[Lows]:
        """`pairs` pairs of each face.

        faces: (H, H, 3) uint8 RGB, aligned, H of any size. identities: (photo key, face index) of each; with the seed
        and the pair's number they decide every draw, so a pair does not depend on its companions nor on how many there
        are. on_step: see `Engine.run`. Raises RecipeError where the mixture has "dr2" and there is no prior.
        """
        addresses = [[Address(self.seed, key, face, pair) for pair in range(pairs)] for key, face in identities]
        draws = [
            [mixture.draw(address, len(face)) for address in of_face]
            for face, of_face in zip(faces, addresses, strict=True)
        ]
        return self.again(faces, addresses, draws, on_step)

    def again(
        self,
        faces: Sequence[Pixels],
        addresses: Sequence[Sequence[Address]],
        draws: Sequence[Sequence[Draw]],
        on_step: Callable[[], None] | None = None,
    ) -> list[Lows]:
        """The same pairs of draws that are known: per face the addresses and draws of its pairs."""
        walks = [self._walks(face, where, what) for face, where, what in zip(faces, addresses, draws, strict=True)]
        going = [walk for of_face in walks for walk in of_face.values()]
        if going and self.engine is not None:
            self.engine.run([walk.search for walk in going], on_step)
        return [
            Lows(
                tuple(
                    Low(self._image(face, address, draw, of_face), draw)
                    for address, draw in zip(of_addresses, of_draws, strict=True)
                ),
                sum(walk.evaluations for walk in of_face.values()),
            )
            for face, of_addresses, of_draws, of_face in zip(faces, addresses, draws, walks, strict=True)
        ]

    def _walks(self, face: Pixels, addresses: Sequence[Address], draws: Sequence[Draw]) -> dict[_Way, _Walk]:
        """The trajectories that a face's pairs need: one, unless they were drawn from several recipes."""
        wanted: dict[_Way, set[int]] = {}
        noise: dict[_Way, Address] = {}
        for address, draw in zip(addresses, draws, strict=True):
            if isinstance(draw, Dr2):
                way = _Way(draw.n, draw.taus, draw.stride)
                wanted.setdefault(way, set()).add(draw.tau // STEP)
                noise[way] = address
        if not wanted:
            return {}
        if self.prior is None:
            raise RecipeError("the recipe dr2 needs a prior")
        y = unit_range([resize(face, (self.size, self.size))])[0] * 2 - 1
        return {
            way: _Walk(way, y, FaceNoise(noise[way].seed, noise[way].key, noise[way].face), taus)
            for way, taus in wanted.items()
        }

    def _image(self, face: Pixels, address: Address, draw: Draw, walks: dict[_Way, _Walk]) -> Pixels:
        if not isinstance(draw, Dr2):
            return resize(draw.apply(face, address.rng("noise")), (self.size, self.size))
        x0 = walks[_Way(draw.n, draw.taus, draw.stride)].search.found[draw.tau // STEP]
        levels = (x0.permute(1, 2, 0).numpy() + 1) * np.float32(127.5)
        return to_uint8(blur(levels, draw.sigma_at(self.size)))


@dataclass(frozen=True)
class _Way:
    """What fixes a trajectory but for where it ends: see `recipes.Dr2`."""

    n: int
    taus: tuple[int, ...]
    stride: int

    def steps(self, last: int) -> tuple[int, ...]:
        """From omega down to `last`. The same ones whichever taus are wanted, so that a pair made alone is the same as
        one made beside others."""
        taus = [tau // STEP for tau in self.taus]
        omega = start_step(self.n, max(taus), _STEPS)
        return tuple(step for step in visited(omega, taus, self.stride // STEP) if step >= last)


class _Walk:
    """One face on its way. evaluations: of the network."""

    def __init__(self, way: _Way, y: Tensor, noise: FaceNoise, taus: set[int]) -> None:
        steps = way.steps(min(taus))
        self.search = Walk(Trajectory(y, noise, way.n, steps, frozenset(taus)))
        self.evaluations = len(steps)
