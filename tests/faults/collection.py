"""The input of the storms: photographs with and without faces, and one that is none, in a few small shards."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from skimage.data import astronaut

from pipeline.tar import write_shard

SETTINGS = (
    "unit.max_samples=2",
    "restore.n=2",
    "restore.tau=20",
    "resources.detect.workers=1",
    "resources.restore.workers=1",
    "resources.enhance.workers=1",
    "resources.detect.threads=1",
    "resources.restore.threads=1",
    "resources.enhance.threads=1",
    "resources.patience_seconds=60",
    "storage.output={config_kwargs: {read_timeout: 120}}",
)
"""Of their runs: small units, one short chain per face, no more processes than two cores bear, and time for answers
that the proxy holds back."""


SHARDS, PHOTOS = 3, 4


def fate(shard: int, number: int) -> Literal["restored", "no_face", "rejected"]:
    """What has to become of a photograph, by its place: in every shard the last has no face, one is none at all."""
    if (shard, number) == (1, 2):
        return "rejected"
    return "no_face" if number == PHOTOS - 1 else "restored"


FATES = Counter(fate(shard, number) for shard in range(SHARDS) for number in range(PHOTOS))
"""How many photographs have which: eight are restored, three have no face, one is rejected."""


def shards() -> dict[str, bytes]:
    """The input, shards by name; each photograph has a caption."""
    face = Image.fromarray(astronaut()[0:280, 110:340])
    rng = np.random.default_rng(0)
    found = {}
    for shard in range(SHARDS):
        members = []
        for number in range(PHOTOS):
            key = f"s{shard}p{number}"
            if fate(shard, number) == "rejected":
                data = b"this is no photograph"
            elif fate(shard, number) == "no_face":
                data = _jpeg(Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((96, 72)))
            else:
                data = _jpeg(face.rotate(4 * shard - 4 + number).resize((115 + 8 * number, 140 + 10 * number)))
            members += [(f"{key}.jpg", data), (f"{key}.txt", f"caption of {key}".encode())]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shard.tar"
            write_shard(path, members)
            found[f"photos-{shard:03d}.tar"] = path.read_bytes()
    return found


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()
