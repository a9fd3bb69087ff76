"""Near-duplicates among faces: a perceptual hash, and which faces are near one that came before.

The hash is the DCT hash of Zauner (2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"): what is
coarse in a face, in 64 bits, of which re-encoding, resizing and changes of brightness move few. The distance of two
faces is how many bits differ, of the face as it is or of its mirror image, whichever is less.

Measured on 1,580 synthetic faces with labelled landmarks, aligned at 256 px, each with copies of its own and with all
others (1,247,410 pairs). A copy was changed as a photograph and aligned by landmarks that moved along:

| copies, in %, at a distance of at most                   |    2 |    3 |    4 |    5 |    6 |    8 |
| -------------------------------------------------------- | ---- | ---- | ---- | ---- | ---- | ---- |
| JPEG, quality 40                                         |  100 |  100 |  100 |  100 |  100 |  100 |
| resized by 2 %                                           | 98.7 | 99.6 | 99.9 |  100 |  100 |  100 |
| resized by 2 %, JPEG, quality 40                         | 98.5 | 99.9 |  100 |  100 |  100 |  100 |
| half the size, JPEG, quality 75                          | 95.1 | 98.8 | 99.5 | 99.9 |  100 |  100 |
| 20 % brighter, clipped                                   | 82.0 | 90.9 | 96.2 | 98.5 | 99.4 | 99.9 |
| mirrored                                                 | 69.4 | 86.5 | 94.6 | 98.4 | 99.6 |  100 |
| brighter, resized, JPEG, quality 40, mirrored            | 56.5 | 75.2 | 88.4 | 94.3 | 97.7 | 99.6 |
| resized, JPEG, quality 40; 193 faces, both detected anew | 89.6 | 95.3 | 97.9 | 99.0 |  100 |  100 |
| mirrored; 193 faces, both detected anew                  | 62.2 | 80.3 | 91.2 | 96.4 | 97.9 |  100 |

The nearest other photograph is at 15 bits or less for half of the faces, at 11 for 5 %, at 8 for 1 %. Of the 25 pairs
within 9 bits eleven show one portrait twice, varied, the nearest at 4. The other 14 are chance: none within 5 bits, 1
within 6, 2 within 7, 6 within 8. As it halves with each bit, chance leaves out about N / 50,000 % of N faces at a limit
of 5: 2 % of 100,000. A limit of 2 does that to a million.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from operators.images import to_grey

Hashes = NDArray[np.uint64]

BITS = 64
LARGEST = 16
"""Limit on distances that `near_duplicates` takes: a quarter of the bits, half of what unrelated images differ by."""

_SIDE = 32  # the face's, in cells, before its transform
_FREQUENCIES = 8  # in each direction, from 1: frequency 0 is the brightness of rows, columns and all
_CHUNK = 1024  # faces compared each with each; what is kept of them joins the index
_CANDIDATES = 2**20  # pairs looked at at a time

_ODD = np.arange(1, _FREQUENCIES + 1) % 2 == 1  # horizontal frequencies that a mirror image has with the other sign
_PLACES = np.uint64(1) << np.arange(BITS, dtype=np.uint64)
_MIRROR = np.bitwise_or.reduce(_PLACES[np.tile(_ODD, _FREQUENCIES)])


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """The 64-bit hash of an aligned face; `mirrored` has that of its mirror image.

    image: (S, S, 3) uint8, S >= 32. Its luma is averaged over 32 x 32 cells and transformed (DCT-II); a bit is set
    where one of the lowest 8 x 8 frequencies, without those that are constant in a direction, is over a threshold. For
    the even horizontal frequencies that is their median, as Zauner has it for all; for the odd ones it is 0, so that
    mirroring, which changes their sign, turns just their bits.
    """
    cells = _averages(to_grey(image)[..., 0].astype(np.float64))
    low = dctn(cells, type=2, norm="ortho")[1 : _FREQUENCIES + 1, 1 : _FREQUENCIES + 1]
    bits = low > np.where(_ODD, 0.0, np.median(low[:, ~_ODD]))
    return int(np.bitwise_or.reduce(_PLACES[bits.ravel()], initial=np.uint64(0)))


def mirrored(hashes: Hashes) -> Hashes:
    """The hashes of the mirror images, same shape."""
    return hashes ^ _MIRROR


def distances(one: Hashes, other: Hashes) -> NDArray[np.uint8]:
    """How many bits differ between hashes or between one's mirror image and the other, whichever is less. The shapes
    broadcast; symmetric."""
    difference = one ^ other
    return np.minimum(np.bitwise_count(difference), np.bitwise_count(difference ^ _MIRROR))


def near_duplicates(hashes: Hashes, limit: int, kept: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Which faces are near-duplicates, taking them in their order: one that is at most `limit` bits from a face kept
    before it is; any other is kept.

    hashes: (N,) uint64. limit: 0 .. LARGEST. kept: (N,) bool, faces that are kept whatever they are near, and count as
    before all others; none when not given. Returns (N,) int64: of a near-duplicate the first place among the kept faces
    it is near, -1 for a kept face. Raises ValueError for another limit.

    What is kept depends on the order alone. Faces that are kept already change nothing for the others, so a decision
    that was broken off may be taken again with any part of it as `kept`.

    Exact, and without comparing each with each: of hashes cut into limit // 2 + 1 bands, two that differ in at most
    `limit` bits have a band that differs in at most one (multi-index hashing, Norouzi et al. 2012).
    """
    if not 0 <= limit <= LARGEST:
        raise ValueError(f"the limit is a distance from 0 to {LARGEST}, not {limit}")
    nobody = len(hashes)
    first = np.full(len(hashes), nobody, np.int64)
    given = np.zeros(len(hashes), bool) if kept is None else kept
    index = _Index(limit)
    index.add(hashes[given], np.flatnonzero(given))
    others = np.flatnonzero(~given)
    for start in range(0, len(others), _CHUNK):
        places = others[start : start + _CHUNK]
        here = hashes[places]
        found = index.first(here, nobody)
        near = np.triu(distances(here[:, None], here) <= limit, 1)
        for row in np.flatnonzero(near.any(axis=1)):
            if found[row] == nobody:
                found[near[row]] = np.minimum(found[near[row]], places[row])
        first[places] = found
        index.add(here[found == nobody], places[found == nobody])
    return np.where(first == nobody, -1, first)


class _Index:
    """Kept faces, found by their hashes: sorted runs, of which equally long ones become one."""

    def __init__(self, limit: int) -> None:
        self.limit, self.runs = limit, list[_Run]()

    def add(self, hashes: Hashes, places: NDArray[np.int64]) -> None:
        while self.runs and len(self.runs[-1].hashes) <= len(hashes):
            last = self.runs.pop()
            hashes, places = np.concatenate([last.hashes, hashes]), np.concatenate([last.places, places])
        self.runs.append(_Run.of(hashes, places, self.limit))

    def first(self, hashes: Hashes, nobody: int) -> NDArray[np.int64]:
        """The first place that is near each hash; `nobody`, more than any place, where there is none."""
        found = np.full(len(hashes), nobody, np.int64)
        for run in self.runs:
            for turned in (hashes, mirrored(hashes)):
                for query, place in run.near(turned, self.limit):
                    np.minimum.at(found, query, place)
        return found


@dataclass(frozen=True)
class _Band:
    """Some bits of the hashes of a run. shift, width: which. values: theirs, sorted; order: whose they are."""

    shift: int
    width: int
    values: Hashes
    order: NDArray[np.int64]

    @classmethod
    def of(cls, hashes: Hashes, shift: int, width: int) -> _Band:
        values = _bits(hashes, shift, width)
        order = np.argsort(values, kind="stable")
        return cls(shift, width, values[order], order)

    def find(
        self, queries: NDArray[np.int64], wanted: Hashes
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Those of the queries whose wanted value is there, where theirs begin in `order`, and how many they are."""
        start = np.searchsorted(self.values, wanted, side="left")
        there = np.flatnonzero(start < len(self.values))
        there = there[self.values[start[there]] == wanted[there]]
        end = np.searchsorted(self.values, wanted[there], side="right")
        return queries[there], start[there], end - start[there]


@dataclass(frozen=True)
class _Run:
    """Some kept faces. hashes: (M,) uint64; places: (M,) int64; bands: of limit // 2 + 1, all bits once."""

    hashes: Hashes
    places: NDArray[np.int64]
    bands: tuple[_Band, ...]

    @classmethod
    def of(cls, hashes: Hashes, places: NDArray[np.int64], limit: int) -> _Run:
        cuts = np.linspace(0, BITS, limit // 2 + 2).round().astype(int)
        bands = (_Band.of(hashes, int(low), int(high - low)) for low, high in pairwise(cuts))
        return cls(hashes, places, tuple(bands))

    def near(self, hashes: Hashes, limit: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Which of the (K,) `hashes` are at most `limit` bits from which place: index and place, some at a time."""
        for band in self.bands:
            values = _bits(hashes, band.shift, band.width)
            queries = np.argsort(values)  # searched for in their order, they find each other's memory in the cache
            for flip in np.concatenate([np.zeros(1, np.uint64), _PLACES[: band.width]]):
                query, start, count = band.find(queries, values[queries] ^ flip)
                for part in _parts(count):
                    asked = np.repeat(query[part], count[part])
                    within = np.arange(len(asked)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
                    other = band.order[np.repeat(start[part], count[part]) + within]
                    is_near = np.bitwise_count(hashes[asked] ^ self.hashes[other]) <= limit
                    yield asked[is_near], self.places[other[is_near]]


def _parts(counts: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of `counts`, all positive, whose sums need little memory at a time."""
    if not len(counts):
        return
    part = np.cumsum(counts) // _CANDIDATES
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1), len(counts)]
    yield from (slice(low, high) for low, high in pairwise(cuts))


def _bits(hashes: Hashes, shift: int, width: int) -> Hashes:
    return hashes >> np.uint64(shift) & np.uint64(2**width - 1)


def _averages(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, S) averaged over equal areas: (32, 32). A pixel that lies in two cells counts in each by its part."""
    size = len(luma)
    edges = np.linspace(0, size, _SIDE + 1)
    pixels = np.arange(size)
    inside = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(inside, 0, 1) * (_SIDE / size)
    return weights @ luma @ weights.T
