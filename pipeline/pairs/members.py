"""What pairs become: samples KEY-P.lq.png, KEY-P.hq.png, KEY-P.json, shuffled, in a tar for training and one for
validation."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from operators.images import encode_png
from operators.training.split import held_out
from pipeline.config import Pairs
from pipeline.ledger import SHARDS, VALIDATION, StoredObject, finite
from pipeline.members import CommitContext, Member, Written, licence, sha256
from pipeline.records import Face, Photo

FORMAT = "dr2e.pair/1"
EXTENSIONS = ("lq.png", "hq.png", "json")
"""Of the members of a sample, in their order."""


@dataclass(frozen=True)
class PairWriter:
    """Encodes and arranges the pairs of a run."""

    seed: int
    pairs: Pairs

    def encode(self, photo: Photo, context: CommitContext) -> Written:
        """All samples of a photo. See `CommitContext.encode`."""
        high = encode_png(_pixels(photo.faces[0].image), grey=photo.grey)
        members: list[Member] = []
        for number, face in enumerate(photo.faces):
            low = encode_png(_pixels(face.crop), grey=photo.grey)
            told = json.dumps(finite(self._told(photo, number, face, low, high, context)), indent=1, ensure_ascii=False)
            names = [f"{photo.key}-{number}.{extension}" for extension in EXTENSIONS]
            members += zip(names, (low, high, told.encode()), strict=True)
        low_names = tuple(name for name, _ in members[::3])
        name = members[1][0]
        return Written(members, low_names, StoredObject(name, len(high), sha256(high)), self.folder(photo.key))

    def folder(self, key: str) -> str:
        """Where the pairs of a photo belong: all photos of a person in the same."""
        return VALIDATION if held_out(identity(key, self.pairs.identity)) else SHARDS

    def arrange(self, results: Iterable[Written]) -> Iterator[tuple[str, Iterable[Member]]]:
        """A tar of samples for training and one for validation, each in an order drawn by seed and sample."""
        samples: dict[str, list[Sequence[Member]]] = {SHARDS: [], VALIDATION: []}
        for result in results:
            starts = range(0, len(result.members), len(EXTENSIONS))
            samples[result.folder] += [result.members[start : start + len(EXTENSIONS)] for start in starts]
        for folder, found in samples.items():
            found.sort(key=self._place)
            yield folder, (member for sample in found for member in sample)

    def _place(self, sample: Sequence[Member]) -> bytes:
        return hashlib.sha256(f"{self.seed}\0{sample[0][0]}\0order".encode()).digest()

    def _told(
        self, photo: Photo, number: int, face: Face, low: bytes, high: bytes, context: CommitContext
    ) -> dict[str, Any]:
        """The sample's JSON: with its hq.png and the prior enough to make its lq.png again (see `again`)."""
        return {
            "format": FORMAT,
            "key": photo.key,
            "face": 0,
            "pair": number,
            "seed": self.seed,
            "draw": face.candidates[0],
            "computed": face.candidates[1],
            "split": "validation" if self.folder(photo.key) == VALIDATION else "train",
            "identity": identity(photo.key, self.pairs.identity),
            "grey": photo.grey,
            "lq": {"size": len(_pixels(face.crop)), "sha256": sha256(low)},
            "hq": {"size": len(_pixels(face.image)), "sha256": sha256(high)},
            "source": {
                "shard": photo.shard,
                "name": photo.image_name,
                "sha256": sha256(photo.image),
                "landmarks5": [[round(float(x), 2), round(float(y), 2)] for x, y in face.landmarks],
                "niqe": face.niqe_out,
            },
            "licence": licence(photo.sidecars),
            "models": {"prior": context.models.get("prior")},
            "versions": dict(context.versions),
        }


def identity(key: str, pattern: str | None) -> str:
    """The person of a key: the first group that `pattern` finds in it, or all that it finds; else the key."""
    found = re.search(pattern, key) if pattern else None
    if found is None:
        return key
    return found.group(1 if found.re.groups else 0) or key


def _pixels(image: Any) -> Any:
    if image is None:
        raise ValueError("a pair lacks an image; was a stage skipped?")
    return image
