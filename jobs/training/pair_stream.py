"""Pairs of `dr2e pairs`, read shard by shard: which ones make up a step's batch follows from the step alone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jobs.training.enhancer_pairs import augmented
from operators.enhance.adapter import to_network
from operators.images import decode
from pipeline.inputs import InputError
from pipeline.pairs.card import FORMAT, INFO
from pipeline.storage import Location

_SHARDS_HELD = 2  # in memory, encoded: the one that is read, and the next where a batch spans both

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(S, S, 3) and (H, H, 3) uint8 RGB: low quality, high quality."""


class PairStream:
    """One split of a set of pairs, gone through again and again: shards in an order drawn anew each time, the pairs of
    a shard in theirs, in which they were shuffled when they were written."""

    def __init__(
        self, url: str, options: Mapping[str, Any] | None = None, *, split: str = "train", seed: int = 0
    ) -> None:
        """url, options: of the output of `dr2e pairs`, which must have finished. Raises InputError for anything else,
        StorageError when it cannot be read."""
        self.location, self.seed = Location(url, dict(options or {})), seed
        data = self.location.read_or_none(INFO)
        if data is None:
            raise InputError(f"{url} has no {INFO}: it is no set of pairs, or 'dr2e pairs' has not finished it")
        try:
            info = json.loads(data)
            if info["format"] != FORMAT:
                raise ValueError(f"the format is not {FORMAT}")
            shards = info["splits"][split]["shards"]
            self.shards = [(str(shard["name"]), int(shard["pairs"])) for shard in shards if shard["pairs"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{url}/{INFO} does not describe pairs ({type(error).__name__}); run 'dr2e pairs'"
            ) from None
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self.info: dict[str, Any] = info
        self._order: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None  # of the round that is read
        self._held: OrderedDict[str, list[tuple[bytes, bytes]]] = OrderedDict()

    def __len__(self) -> int:
        """Pairs of the split."""
        return sum(count for _, count in self.shards)

    def pair(self, position: int) -> Pair:
        """The pair at a place of the endless stream, counted from 0. Raises InputError for a damaged shard."""
        number, offset = divmod(position, len(self))
        order, ends = self._round(number)
        place = int(np.searchsorted(ends, offset, side="right"))
        name, count = self.shards[order[place]]
        low, high = self._shard(name, count)[offset - int(ends[place]) + count]
        return decode(low).pixels, decode(high).pixels

    def _round(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of the shards in a round through all of them, and where in it each ends."""
        if self._order is None or self._order[0] != number:
            order = np.random.default_rng((self.seed, number)).permutation(len(self.shards))
            ends = np.cumsum([self.shards[place][1] for place in order])
            self._order = number, order, ends
        return self._order[1:]

    def draw(self, count: int, rng: np.random.Generator, step: int, grey: float) -> tuple[Tensor, Tensor]:
        """The batch of a step: (count, 3, S, S) inputs and (count, 3, H, H) targets, float32 in [-1, 1], flipped, toned
        and, a share `grey` of them, without colour, by `rng`."""
        low, high = zip(*(self.pair(step * count + place) for place in range(count)), strict=True)
        return augmented(to_network(np.stack(low)), to_network(np.stack(high)), grey, rng)

    def _shard(self, name: str, count: int) -> list[tuple[bytes, bytes]]:
        """The encoded pairs of a shard."""
        if name not in self._held:
            found = _read(self.location.read(name), f"{self.location.url}/{name}")
            if len(found) != count:
                raise InputError(
                    f"{self.location.url}/{name} has {len(found)} pairs, {INFO} says {count}; run 'dr2e verify'"
                )
            self._held[name] = found
            if len(self._held) > _SHARDS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(name)
        return self._held[name]


def _read(data: bytes, name: str) -> list[tuple[bytes, bytes]]:
    """The lq.png and hq.png of a tar's samples, in their order."""
    samples: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                key, _, extension = member.name.rpartition("/")[2].partition(".")
                file = tar.extractfile(member)
                if file is not None and extension in ("lq.png", "hq.png"):
                    samples.setdefault(key, {})[extension] = file.read()
        return [(sample["lq.png"], sample["hq.png"]) for sample in samples.values()]
    except (tarfile.TarError, KeyError) as error:
        raise InputError(f"{name} is no shard of pairs ({type(error).__name__}: {error}); run 'dr2e verify'") from None
