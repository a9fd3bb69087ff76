"""Which photos are evaluated, found from the headers of the shards before anything is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from operators.training.split import held_out
from pipeline.config import Unit as UnitLimits
from pipeline.inputs import InputError, ShardRef
from pipeline.shards import SampleRef, ShardIndex, index_shard
from pipeline.storage import StorageOptions, local_copy
from pipeline.units import Unit, cut

SHOWN = 16
"""Photos that the contact sheets may show: twice their rows, because some photos turn out to be unusable. Where every
photo has one setting, they are spread over the sheets."""


@dataclass(frozen=True)
class Sample:
    """units: of chosen photos alone, in input order. shown: the first photos by rank, as `photo_name` has them.

    fingerprint: SHA-256 (hex) over the units, their photos and the sizes of those.
    """

    units: tuple[Unit, ...]
    shown: tuple[str, ...]
    fingerprint: str


def photo_name(shard: str, key: str) -> str:
    """The name of a photo that is unique in the input."""
    return f"{shard}/{key}"


def rank(key: str) -> str:
    """Keys sorted by this are in a fair order: it has nothing to do with what a photo shows."""
    return hashlib.sha256(key.encode()).hexdigest()


def choose(
    shards: Sequence[ShardRef],
    options: StorageOptions,
    limits: UnitLimits,
    *,
    only_held_out: bool = False,
    most: int | None = None,
) -> Sample:
    """The photos to evaluate. Reads the headers of every shard; one in object storage is fetched for that.

    only_held_out: leave out the keys training may use. most: photos at most, the first by `rank`. What is wrong
    with a shard as a whole is in its units in any case. Raises InputError when no photo is left, StorageError.
    """
    indices = {shard: _index(shard, options, only_held_out) for shard in shards}
    ranked = sorted(
        (rank(sample.key), shard.relative, sample.key) for shard, index in indices.items() for sample in index.samples
    )[:most]
    if not ranked:
        raise InputError(f"no photo of the input is {'held out' if only_held_out else 'there'}; name other shards")
    chosen = {(relative, key) for _, relative, key in ranked}
    units: list[Unit] = []
    for shard, index in indices.items():
        samples = tuple(sample for sample in index.samples if (shard.relative, sample.key) in chosen)
        if samples or index.problem:
            kept = ShardIndex(samples, index.problem)
            units += cut(shard, kept, max_samples=limits.max_samples, max_bytes=limits.max_bytes)
    shown = tuple(photo_name(relative, key) for _, relative, key in ranked[:SHOWN])
    return Sample(tuple(units), shown, _fingerprint(units))


def _index(shard: ShardRef, options: StorageOptions, only_held_out: bool) -> ShardIndex:
    with local_copy(shard.url, options) as path:
        index = index_shard(path)
    samples: Iterable[SampleRef] = index.samples
    if only_held_out:
        samples = (sample for sample in samples if held_out(sample.key))
    return ShardIndex(tuple(samples), index.problem)


def _fingerprint(units: Iterable[Unit]) -> str:
    digest = hashlib.sha256()
    for unit in units:
        digest.update(f"{unit.id}\n".encode())
        for sample in unit.samples:
            digest.update(f"{sample.key}\0{[(member.name, member.size) for member in sample.members]}\n".encode())
    return digest.hexdigest()
