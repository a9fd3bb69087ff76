"""A small collection of real photographs, spoiled and packed, and Ray to restore it on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image
from skimage.data import astronaut

from jobs.api import restore
from operators.degrade.classical import classical
from pipeline.config import load
from pipeline.output import Output
from pipeline.tar import write_shard

Objects = Callable[..., dict[str, bytes]]


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """Settings of a run that takes seconds: small units, one short chain per face."""
    return ["unit.max_samples=2", "restore.n=2", "restore.tau=20"]


@pytest.fixture(scope="session")
def photographs() -> list[bytes]:
    """Five small spoiled photographs of two people as JPEG; the fourth is grey."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = np.asarray(Image.open(file).convert("RGB"))
    collins = astronaut()
    grey = np.repeat(np.asarray(Image.fromarray(collins).convert("L"))[..., None], 3, axis=-1)
    rng = np.random.default_rng(0)

    def spoiled(pixels: np.ndarray, height: int) -> bytes:
        image = Image.fromarray(pixels)
        small = np.asarray(image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS))
        spoilt = classical(small, r=1.5, sigma=0.7, noise="gaussian", delta=4.0, quality=60, rng=rng)
        if (pixels[..., :1] == pixels).all():
            spoilt = np.repeat(spoilt[..., 1:2], 3, axis=-1)
        out = io.BytesIO()
        Image.fromarray(spoilt).save(out, format="JPEG", quality=90)
        return out.getvalue()

    pictures = [(collins, 320), (hopper, 300), (collins[:, ::-1], 256), (grey, 320), (hopper[:, ::-1], 280)]
    return [spoiled(pixels, height) for pixels, height in pictures]


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory, photographs: list[bytes]) -> Path:
    """A folder of two shards: the five photographs with a sidecar each, and text named .jpg."""
    folder = tmp_path_factory.mktemp("collection")
    samples = [[(f"p{i}.jpg", photo), (f"p{i}.txt", b"caption")] for i, photo in enumerate(photographs)]
    samples.append([("p5.jpg", b"this is no photograph")])
    for number, half in enumerate((samples[:3], samples[3:])):
        write_shard(folder / f"photos-{number:03d}.tar", [member for sample in half for member in sample])
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """One Ray for all tests that take it, and its address; runs in this process use the connection they find."""
    import ray

    from pipeline.session import session

    with session():
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, collection: Path, cluster: str, quick: list[str]) -> Path:
    """The output of an undisturbed run over the collection."""
    output = tmp_path_factory.mktemp("finished") / "out"
    restore(load(None, quick, {"input": str(collection), "output": str(output)}), progress=io.StringIO())
    return output


@pytest.fixture(scope="session")
def objects() -> Objects:
    """The committed objects of a kind by unit: what two outputs are compared by."""

    def read(output: str | Path, kind: str = "shards", options: dict[str, str] | None = None) -> dict[str, bytes]:
        found = Output(output, options)
        stored = {record.unit: record.object(kind) for record in found.records()}
        return {unit: found.location.read(item.name) for unit, item in stored.items() if item is not None}

    return read
