"""The pages about models say what is so: the table is the catalogue's, and the example of an enhancer works."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from model_page import PAGE, renewed

from operators.enhance import registry
from operators.enhance.contract import OptionError, Options
from pipeline.config import load
from pipeline.loaders import load_enhancer
from pipeline.models import ModelError, describe, enhancer_options, local_model
from pipeline.store.install import Told, add
from pipeline.store.places import open_store

ADDING = PAGE.with_name("adding-an-enhancer.md")


def test_the_table_of_models_is_the_catalogue_of_today() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page) == page, "run python -m model_page in tests"


@pytest.fixture
def glow(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the page, in the registry."""
    (text,) = re.findall(r"```python\n(.*?)```", ADDING.read_text(encoding="utf-8"), re.DOTALL)
    assert len(text.splitlines()) < 65
    module = ModuleType("glow")
    exec(compile(text, "glow.py", "exec"), module.__dict__)
    monkeypatch.setattr(registry, "ARCHITECTURES", (*registry.ARCHITECTURES, module.GLOW))
    return module


@pytest.fixture
def checkpoint(glow: ModuleType, tmp_path: Path) -> Path:
    """A file of it, in the wrapping that training frameworks leave."""
    torch.manual_seed(0)
    state = {f"module.{key}": value for key, value in glow.Glow(8).state_dict().items()}
    torch.save({"params_ema": state, "epoch": 3}, tmp_path / "glow.pth")
    return tmp_path / "glow.pth"


def test_the_enhancer_of_the_page_enhances(checkpoint: Path) -> None:
    enhancer = registry.load(checkpoint)
    faces = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    enhanced = enhancer.enhance(faces)
    assert enhanced.shape == (3, 256, 256, 3)
    assert np.array_equal(enhancer.enhance(faces[1:2]), enhanced[1:2])
    kept = registry.load(checkpoint, options=Options(fidelity=1.0)).enhance(faces)
    assert not np.array_equal(kept, enhanced)
    with pytest.raises(OptionError, match="takes 0 to 1, not 2"):
        registry.load(checkpoint, options=Options(fidelity=2.0))


def test_it_is_stored_named_and_asked_for_its_options(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DR2E_MODELS", str(tmp_path / "store"))
    told = Told(name="glow", licence="MIT")
    record = add(open_store(), str(checkpoint), tmp_path / "copies", lambda done, total: None, told)
    assert (record.role, record.architecture, record.files[0].name) == ("enhancer", "Glow", "glow.pth")

    def config(**enhance: object) -> object:
        fixed = {"input": "in", "output": "out", "restore": {"n": 4, "tau": 40}}
        return load(base={**fixed, "enhance": {"enhancer": "glow", **enhance}})

    chosen = config(fidelity=0.25, precision="bfloat16")
    model = describe(chosen).enhancer
    assert (model.name, model.licence, model.sha256) == ("glow", "MIT", record.sha256)
    assert enhancer_options(chosen) == Options(0.25, "bfloat16")
    enhancer = load_enhancer(chosen, "cpu")
    assert (enhancer.name, enhancer.licence, enhancer.fingerprint) == ("glow", "MIT", record.sha256)
    assert enhancer.fidelity == 0.25
    with pytest.raises(ModelError, match=r"enhance\.fidelity: 'glow' takes 0 to 1, not 3"):
        describe(config(fidelity=3))
    assert Path(local_model(chosen, "enhancer").source) == tmp_path / "store" / record.folder / "glow.pth"
    # By its path it is recognised as well, before any worker is asked.
    by_path = describe(config(enhancer=str(checkpoint))).enhancer
    assert (by_path.name, by_path.licence, by_path.sha256) == ("glow.pth", "see its publisher", record.sha256)


def test_a_checkpoint_of_another_size_is_refused_by_the_store(glow: ModuleType, tmp_path: Path) -> None:
    state = dict(glow.Glow(8).state_dict())
    state["glow_out.weight"] = state["glow_out.weight"][:, :4].clone()
    torch.save(state, tmp_path / "glow.pth")
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(
        ModelError, match=r"glow\.pth looks like Glow, but is of a size or version that cannot be built"
    ):
        add(store, str(tmp_path / "glow.pth"), tmp_path / "copies", lambda done, total: None, Told())
    assert store.records() == []
