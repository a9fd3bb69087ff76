"""A licence that forbids commercial use is acknowledged before a model is used, whatever its file is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import guided_diffusion, small_enhancer

from pipeline.config import Config, load
from pipeline.models import describe
from pipeline.store import catalogue
from pipeline.store.catalogue import Published, PublishedFile, licence_of_architecture
from pipeline.store.convert import convert
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError
from pipeline.store.install import Told, add
from pipeline.store.keeping import ModelStore
from pipeline.store.licences import is_noncommercial, strictest
from pipeline.store.named import require_licence_of
from pipeline.store.places import open_store
from pipeline.store.record import Record

NC = "CC-BY-NC-4.0"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("DR2E_MODELS", str(tmp_path / "store"))
    return open_store()


@pytest.fixture
def adm(tmp_path: Path) -> Path:
    torch.save(guided_diffusion(), tmp_path / "adm.pt")
    return tmp_path / "adm.pt"


def add_file(store: ModelStore, path: Path, **told: object) -> Record:
    return add(store, str(path), path.parent / "copies", lambda done, total: None, Told(**told))  # type: ignore[arg-type]


def publish(monkeypatch: pytest.MonkeyPatch, *licences: str, sha256: str | None = "0" * 64) -> None:
    """A catalogue of priors, one of each licence."""
    models = (
        Published(
            f"theirs-{k}",
            "prior",
            "guided-diffusion",
            licence,
            "https://e.org",
            (PublishedFile("w.pt", sha256=sha256),),
        )
        for k, licence in enumerate(licences)
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", tuple(models))


def a_run(**settings: object) -> Config:
    return load(None, [], {"input": "in", "output": "out", "restore.n": 4, "restore.tau": 40, **settings})


def test_what_forbids_commercial_use() -> None:
    for licence in (NC, "CC-BY-NC-SA-4.0", "S-Lab-1.0", "Non Commercial", "noncommercial", "non-commercial research"):
        assert is_noncommercial(licence), licence
    for licence in ("MIT", "Apache-2.0", "not stated", "commercial", "NCSA"):
        assert not is_noncommercial(licence), licence
    assert strictest(["", None, "MIT", NC]) == NC and strictest(["MIT", "BSD"]) == "MIT" and strictest([]) == ""


def test_an_architecture_with_noncommercial_weights_alone_has_their_licence() -> None:
    assert licence_of_architecture("CodeFormer") == "S-Lab-1.0"
    assert licence_of_architecture("SPARNetHD") == "CC-BY-NC-SA-4.0"
    assert licence_of_architecture("SwinIR") is None  # one of two
    assert licence_of_architecture("GFPGAN") is None and licence_of_architecture("other") is None


def test_other_bytes_of_such_an_architecture_are_acknowledged_as_well(
    store: ModelStore, adm: Path, monkeypatch
) -> None:
    publish(monkeypatch, NC)
    with pytest.raises(
        ModelError, match=f"--licence: that of this guided-diffusion is {NC}, and not MIT; leave it out"
    ):
        add_file(store, adm, name="mine", licence="MIT")
    assert add_file(store, adm, name="mine").licence == NC
    with pytest.raises(ModelError, match=r"with 'dr2e models accept mine', or with --set models\.accept=\[mine\]$"):
        describe(a_run(**{"restore.prior": "mine"}))
    publish(monkeypatch, NC, "MIT")
    assert add_file(store, adm, name="other").licence == "see its publisher"


def test_a_file_of_such_an_architecture_outside_of_a_store(store: ModelStore, adm: Path, monkeypatch) -> None:
    publish(monkeypatch, NC)
    with pytest.raises(ModelError, match=r"adm\.pt: its licence .*with --set models\.accept=\[theirs-0\]$"):
        require_licence_of(a_run(), "guided-diffusion", "adm.pt")
    for name in ("adm.pt", "theirs-0"):
        require_licence_of(a_run(**{"models.accept": [name]}), "guided-diffusion", "adm.pt")
    require_licence_of(a_run(), "GFPGAN", "x.pth")
    store.accept(add_file(store, adm, name="mine"))
    require_licence_of(a_run(), "guided-diffusion", "mine")


def test_a_licence_goes_with_a_conversion(store: ModelStore, adm: Path, tmp_path: Path, monkeypatch) -> None:
    convert(adm, tmp_path / "told.safetensors", {"licence": NC})
    assert add_file(store, tmp_path / "told.safetensors").licence == NC
    with pytest.raises(ModelError, match="--licence"):
        add_file(store, tmp_path / "told.safetensors", name="mine", licence="MIT")
    convert(adm, tmp_path / "early.safetensors")  # before anybody knew
    publish(monkeypatch, NC, "MIT", sha256=sha256_of(adm))
    convert(adm, tmp_path / "late.safetensors", {"licence": "MIT"})
    convert(tmp_path / "early.safetensors", tmp_path / "twice.safetensors")
    for name in ("early", "late", "twice"):
        assert add_file(store, tmp_path / f"{name}.safetensors").licence == NC, name


def test_a_known_licence_is_not_told_otherwise(store: ModelStore, adm: Path, tmp_path: Path, monkeypatch) -> None:
    publish(monkeypatch, "Apache-2.0", sha256=sha256_of(adm))
    with pytest.raises(ModelError, match=r"is Apache-2\.0, and not MIT"):
        add_file(store, adm, licence="MIT")
    assert add_file(store, adm, licence="Apache-2.0").licence == "Apache-2.0"
    store.remove("theirs-0")
    publish(monkeypatch, "not stated", sha256=sha256_of(adm))
    assert add_file(store, adm, licence="by letter").licence == "by letter"  # who asked may say what was answered
    ours = small_enhancer(tmp_path / "e.safetensors", "Apache-2.0")
    assert add_file(store, ours, name="ours", licence="MIT").licence == "MIT"  # one's own


def test_sparnethd_under_another_name_has_its_publishers_licence(store: ModelStore, tmp_path: Path) -> None:
    from layouts import ENHANCERS

    path = ENHANCERS["sparnethd"](tmp_path)
    record = add_file(store, path.rename(tmp_path / "some.pth"), name="mine")
    assert (record.architecture, record.licence) == ("SPARNetHD", "CC-BY-NC-SA-4.0")
    with pytest.raises(ModelError, match="'dr2e models accept mine'"):
        describe(a_run(**{"enhance.enhancer": "mine"}))
    store.accept(record)
    assert describe(a_run(**{"enhance.enhancer": "mine"})).enhancer.licence == "CC-BY-NC-SA-4.0"
