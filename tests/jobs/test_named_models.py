"""A run with a prior and an enhancer of a store on S3, by name: restored, recorded, and copied once for all workers."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from servers import S3
from small_models import small_enhancer

from jobs.api import restore
from operators.training.weights import load_weights, save_weights
from operators.weights import builtin
from pipeline.config import load
from pipeline.models import ModelError
from pipeline.output import Output
from pipeline.store.install import Told, add
from pipeline.store.places import open_store


def test_two_models_of_a_bucket_restore_a_photo(
    s3: S3, tmp_path: Path, photographs: list[bytes], cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, copies = open_store(s3.folder(), s3.options), tmp_path / "copies"
    state, description = load_weights(builtin("prior"))
    save_weights(tmp_path / "prior.safetensors", state, {**description, "name": "another"})  # other bytes
    small_enhancer(tmp_path / "enhancer.safetensors")
    for kind, name in (("prior", "smooth"), ("enhancer", "sharp")):
        add(store, str(tmp_path / f"{kind}.safetensors"), copies, lambda done, total: None, Told(name=name))
    (tmp_path / "photo.jpg").write_bytes(photographs[2])
    settings = {
        "input": str(tmp_path / "photo.jpg"),
        "output": str(tmp_path / "out"),
        "models": {"store": store.url, "cache": str(copies)},
        "storage": {"models": s3.options},
        "restore": {"prior": "smooth"},
        "enhance": {"enhancer": "sharp"},
    }
    with caplog.at_level(logging.WARNING):
        restore(load(base=settings), progress=io.StringIO())
    # The policy was fitted to other models: it chooses all the same, and that is said.
    assert "was fitted to another prior than smooth" in caplog.text
    assert "was fitted to another enhancer than sharp" in caplog.text
    output = Output(tmp_path / "out")
    assert output.status().counts["restored"] == 1
    run = output.run()
    assert run is not None
    assert (run["models"]["prior"]["name"], run["models"]["enhancer"]["name"]) == ("smooth", "sharp")
    assert run["models"]["enhancer"]["sha256"] == store.find("sharp").sha256  # type: ignore[union-attr]
    assert s3.secret not in json.dumps(run)
    copied = {path.name for path in copies.iterdir() if path.is_dir()}
    assert copied == {store.find(name).sha256 for name in ("smooth", "sharp")}  # type: ignore[union-attr]

    assert restore(load(base=settings), progress=io.StringIO()).was_complete  # and it is the same run again
    store.remove("sharp")
    with pytest.raises(ModelError, match="'sharp' is no file and no folder here, and not in the store"):
        restore(load(base=settings), progress=io.StringIO())
