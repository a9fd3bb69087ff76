"""Each published prior with each published enhancer, by the names of a store, through the command: no line of code.

The networks are small and their weights drawn, but for CodeFormer, which cannot be small. Each prior and each enhancer
takes part at once, all pairs with `-m slow`.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from layouts import ENHANCERS, PRIORS
from PIL import Image
from without_ray import run_here

from jobs.models import command as models
from jobs.restore import command as restore
from operators.enhance import registry
from pipeline.output import Output
from pipeline.store.places import open_store

pytest.importorskip("spandrel_extra_arches")

LARGE = {"codeformer"}
QUICK = {(prior, "none") for prior in PRIORS} | {("builtin", name) for name in ENHANCERS if name not in LARGE}
PAIRS = [
    pytest.param(prior, enhancer, marks=[] if (prior, enhancer) in QUICK else [pytest.mark.slow])
    for enhancer in [*ENHANCERS, "builtin", "none"]
    for prior in [*PRIORS, "builtin"]
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them are, added as a user would."""
    folder = tmp_path_factory.mktemp("published")
    for kind, written in (("prior", PRIORS), ("enhancer", ENHANCERS)):
        for name, write in written.items():
            options = ["--size", "64"] if name in ("ilvr", "p2", "dr2") else []
            options += ["--name", f"my-{name}-{kind}", "--accept-licence"]  # of SPARNetHD and CodeFormer
            _answer("--store", str(folder / "store"), "add", str(write(folder)), *options)
    return folder / "store"


def _answer(*arguments: str) -> None:
    result = CliRunner().invoke(models, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def photo(photographs: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "collins.jpg"
    path.write_bytes(photographs[0])
    return path


def test_all_are_told_apart(store: Path) -> None:
    records = {record.name: record for record in open_store(str(store)).records()}
    assert len(records) == len(PRIORS) + len(ENHANCERS)
    assert {record.role for name, record in records.items() if name.endswith("-enhancer")} == {"enhancer"}
    architectures = {record.architecture for record in records.values() if record.role == "enhancer"}
    assert architectures == {"dr2e enhancer", *(architecture.name for architecture in registry.ARCHITECTURES)}


@pytest.mark.parametrize(("prior", "enhancer"), PAIRS)
def test_they_restore_a_photograph(
    prior: str, enhancer: str, store: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch)
    names = {
        "prior": prior if prior == "builtin" else f"my-{prior}-prior",
        "enhancer": enhancer if enhancer in ("builtin", "none") else f"my-{enhancer}-enhancer",
    }
    arguments = ["--input", str(photo), "--output", str(tmp_path / "out"), "--n", "4", "--tau", "40"]
    arguments += ["--set", f"models.store={store}", "--set", "restore.stride=100"]
    for role, name in names.items():
        arguments += [f"--{role}", name]
    result = CliRunner().invoke(restore, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output

    output = Output(str(tmp_path / "out"))
    (record,) = output.records()
    assert record.counts["restored"] == 1
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["models"]
    for role, name in names.items():
        if name.startswith("my-"):
            (stored,) = [one for one in open_store(str(store)).records() if one.name == name]
            assert (recorded[role]["source"], recorded[role]["sha256"]) == (name, stored.sha256)
    shard = record.object("shards")
    assert shard is not None
    with tarfile.open(fileobj=io.BytesIO(output.location.read(shard.name))) as tar:
        (member,) = (member for member in tar if ".face" in member.name)
        face = np.asarray(Image.open(tar.extractfile(member)))
    assert face.shape[0] == face.shape[1] and face.std() > 1
