"""Models are found and identified before anything starts."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
import torch
from small_models import guided_diffusion, small_enhancer

from operators.enhance.contract import Identity
from operators.training.weights import save_weights
from pipeline.config import Config, build
from pipeline.models import ROLES, ModelError, describe, local_model
from pipeline.run import Run, RunMismatch
from pipeline.store.install import Told, add
from pipeline.store.places import open_store


@pytest.fixture
def models(tmp_path):
    """Settings that name five small models of our own format."""
    descriptions = {"detector": {}, "prior": {"spec": {"size": 64, "max_timestep": 500}}, "niqe": {}, "enhancer": {}}
    for kind, more in descriptions.items():
        description = {"kind": kind, "name": f"my {kind}", "licence": "Apache-2.0", **more}
        save_weights(tmp_path / f"{kind}.safetensors", {"x": torch.ones(2)}, description)
    write_policy(tmp_path, {kind: sha256(tmp_path / f"{kind}.safetensors") for kind in ("prior", "niqe", "enhancer")})
    return tmp_path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_policy(folder: Path, fitted_with: dict[str, str] | None) -> None:
    description = {"kind": "policy", "name": "my policy", "licence": "Apache-2.0"}
    if fitted_with is not None:
        description["fitted_with"] = {role: {"sha256": digest} for role, digest in fitted_with.items()}
    save_weights(folder / "policy.safetensors", {"x": torch.ones(2)}, description)


def config(models, **changes: str) -> Config:
    names = {kind: str(models / f"{kind}.safetensors") for kind in ROLES} | changes
    return build(
        {
            "input": "in",
            "output": "out",
            "detect": {"detector": names["detector"]},
            "restore": {
                "prior": names["prior"],
                "niqe": names["niqe"],
                "policy": names["policy"],
                "tau": changes.get("tau"),
                "n": changes.get("n"),
            },
            "enhance": {"enhancer": names["enhancer"]},
        }
    )


def test_models_are_described_by_name_licence_and_hash(models):
    found = describe(config(models))
    expected = hashlib.sha256((models / "prior.safetensors").read_bytes()).hexdigest()
    assert (found.prior.name, found.prior.licence, found.prior.sha256) == ("my prior", "Apache-2.0", expected)
    assert (found.face_size, found.max_timestep) == (64, 500)
    assert set(found.to_json()) == set(ROLES)


def test_the_bicubic_enhancer_has_no_weights(models):
    assert describe(config(models, enhancer="none")).enhancer.sha256 == ""


def test_a_missing_file_another_kind_and_damage_are_told_apart(models):
    (models / "damaged.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0 nonsense")
    for name, message in [
        ("gone", "is missing; check the path"),
        ("enhancer", "holds a model of kind .enhancer."),
        ("damaged", "is damaged"),
    ]:
        with pytest.raises(ModelError, match=f"prior: .*{name}.safetensors {message}"):
            describe(config(models, prior=str(models / f"{name}.safetensors")))


def test_a_timestep_the_prior_was_never_trained_at_is_refused(models):
    with pytest.raises(ModelError, match="500 is more than prior 'my prior' was trained at"):
        describe(config(models, tau=500, n=4))
    assert describe(config(models, tau=490, n=4)).max_timestep == 500


def test_retinaface_is_looked_for_in_its_folder_and_may_be_named_itself(models):
    retinaface = pytest.importorskip("facexlib.detection.retinaface")
    with pytest.raises(ModelError, match=r"not found: .*; put facexlib's detection_Resnet50_Final\.pth or"):
        describe(config(models, detector=f"retinaface:{models}"))
    file = models / "detection_mobilenet0.25_Final.pth"
    file.write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"detector: .*detection_mobilenet0\.25_Final\.pth"):
        describe(config(models, detector=f"retinaface:{models}"))
    torch.save(retinaface.RetinaFace(network_name="mobile0.25", device="cpu").state_dict(), file)
    for source in (f"retinaface:{models}", f"retinaface:{file}", str(file)):
        found = describe(config(models, detector=source)).detector
        assert (found.name, found.sha256) == (file.name, sha256(file))


def test_a_diffusers_folder_says_its_size_and_steps(models):
    folder = models / "ddpm" / "unet"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"sample_size": 256}))
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    (models / "ddpm" / "scheduler").mkdir()
    (models / "ddpm" / "scheduler" / "scheduler_config.json").write_text(json.dumps({"num_train_timesteps": 500}))
    found = describe(config(models, prior=str(models / "ddpm")))
    assert (found.face_size, found.max_timestep, found.prior.name) == (256, 500, "ddpm")
    assert found.prior.sha256 == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(ModelError, match="500 is more than prior 'ddpm' was trained at"):
        describe(config(models, prior=str(models / "ddpm"), tau=500, n=4))


def test_a_folder_that_is_no_model_is_refused(models):
    (models / "empty").mkdir()
    with pytest.raises(ModelError, match=r"prior: .*empty/config\.json is missing"):
        describe(config(models, prior=str(models / "empty")))


def test_a_policy_belongs_to_its_judge_and_says_so_of_prior_and_enhancer(models, caplog):
    fitted_with = {kind: sha256(models / f"{kind}.safetensors") for kind in ("prior", "niqe", "enhancer")}
    with caplog.at_level(logging.WARNING):
        assert describe(config(models)).policy.name == "my policy"
        assert not caplog.records
        write_policy(models, {**fitted_with, "prior": "0" * 64})
        describe(config(models))
        assert "was fitted to another prior than my prior" in caplog.text
    write_policy(models, {**fitted_with, "niqe": "0" * 64})
    with pytest.raises(ModelError, match="my policy was not fitted to the scores of my niqe; fit one with"):
        describe(config(models))
    write_policy(models, None)
    with pytest.raises(ModelError, match="does not say what it was fitted to"):
        describe(config(models))
    assert describe(config(models, n=4, tau=40)).policy.name == "none"


def test_a_judge_of_pyiqa_is_known_by_name_and_version(models):
    found = describe(config(models, niqe="pyiqa:piqe", n=4, tau=40)).niqe
    assert (found.name, len(found.sha256)) == ("piqe of pyiqa", 64)
    with pytest.raises(ModelError, match="not fitted to the scores of piqe of pyiqa"):
        describe(config(models, niqe="pyiqa:piqe"))
    with pytest.raises(ModelError, match="niqe: 'piqqe' is no no-reference metric of pyiqa"):
        describe(config(models, niqe="pyiqa:piqqe", n=4, tau=40))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with an enhancer and a prior in a published layout."""
    monkeypatch.setenv("DR2E_MODELS", str(tmp_path / "store"))
    torch.save(guided_diffusion(), tmp_path / "adm.pt")
    kept = open_store()
    for path, told in (
        (small_enhancer(tmp_path / "e.safetensors"), Told(name="sharp")),
        (tmp_path / "adm.pt", Told(name="adm", licence="MIT", settings={"size": 64})),
    ):
        add(kept, str(path), tmp_path / "copies", lambda done, total: None, told)
    return kept


def test_models_of_a_store_are_described_by_their_records(models, store):
    found = describe(config(models, prior="adm", enhancer="sharp", n=4, tau=40))
    assert (found.prior.source, found.prior.name, found.prior.licence) == ("adm", "adm", "MIT")
    assert (found.face_size, found.max_timestep) == (64, 1000)
    assert found.enhancer.sha256 == store.find("sharp").sha256
    assert found.stored == {"adm": found.prior.sha256, "sharp": found.enhancer.sha256}


def test_workers_are_held_to_what_was_described(models, store, monkeypatch):
    chosen = config(models, prior="adm", enhancer="sharp", n=4, tau=40)
    run = Run(chosen, describe(chosen))
    workers = run.without_secrets()
    monkeypatch.setenv("DR2E_MODELS", "/of/another/machine")
    found = local_model(workers, "prior")
    assert (Path(found.source).name, found.settings) == ("adm.pt", {"size": 64})
    assert found.identity == Identity("adm", "MIT", run.models.prior.sha256)
    store.remove("sharp")
    other = small_enhancer(models / "other.safetensors", seed=2)
    add(store, str(other), models / "copies", lambda done, total: None, Told(name="sharp"))
    with pytest.raises(ModelError, match=r"sharp of .* is not any more what the run began with"):
        local_model(workers, "enhancer")
    monkeypatch.setenv("DR2E_MODELS", store.url)
    assert local_model(chosen, "enhancer").identity.fingerprint == sha256(other)


def test_a_name_that_is_not_stored_says_how_to_get_it(models, store):
    for name, told in [
        ("gfpgan-1.4", "gfpgan-1.4 is not in the store .*; get it with 'dr2e models pull gfpgan-1.4'"),
        ("sparnethd", r".*download SPARNetHD_V4_Attn2D_net_H-epoch10\.pth as https://.* says, and 'dr2e models add"),
        ("sharpest", "'sharpest' is no file and no folder here, and not in the store"),
        ("adm", "adm of .* is a model of kind 'prior'; name one of kind 'enhancer'"),
    ]:
        with pytest.raises(ModelError, match=f"enhancer: {told}"):
            describe(config(models, enhancer=name, n=4, tau=40))


def test_a_name_may_be_a_folder_that_is_here(models, store, monkeypatch):
    monkeypatch.chdir(models)
    (models / "ddpm").mkdir()
    (models / "ddpm" / "config.json").write_text(json.dumps({"sample_size": 256}))
    (models / "ddpm" / "scheduler_config.json").write_text(json.dumps({"num_train_timesteps": 1000}))
    (models / "ddpm" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    assert describe(config(models, prior="ddpm", n=4, tau=40)).face_size == 256


def test_options_that_an_enhancer_does_not_have_are_refused_before_a_run(models, store):
    for source in ("sharp", "builtin", "none"):
        for option, told in [({"fidelity": 0.5}, "has no such knob"), ({"precision": "bfloat16"}, "not bfloat16")]:
            chosen = config(models, enhancer=source, n=4, tau=40)
            chosen = chosen.model_copy(update={"enhance": chosen.enhance.model_copy(update=option)})
            with pytest.raises(ModelError, match=rf"enhance\.{next(iter(option))}: .*{told}"):
                describe(chosen)


def test_options_are_part_of_the_result_and_runs_from_before_them_go_on(models):
    chosen = config(models, n=4, tau=40)
    run = Run(chosen, describe(chosen))
    record = run.record([])
    assert record["config"]["enhance"]["fidelity"] is None and "models" not in record["config"]
    del record["config"]["enhance"]["fidelity"], record["config"]["enhance"]["precision"]
    run.check(record)
    with pytest.raises(RunMismatch, match=r'enhance\.precision was "bfloat16", is "float32"'):
        run.check({**record, "config": {**record["config"], "enhance": {"precision": "bfloat16"}}})


def test_a_policy_that_goes_beyond_a_prior_is_told_before_the_run(models):
    description = {"kind": "policy", "name": "far", "pairs": [[4, 20], [8, 50]], "probe": [2]}
    fitted = {kind: {"sha256": sha256(models / f"{kind}.safetensors")} for kind in ("prior", "niqe", "enhancer")}
    save_weights(models / "policy.safetensors", {"x": torch.ones(2)}, {**description, "fitted_with": fitted})
    with pytest.raises(ModelError, match="far goes to tau = 500, and prior 'my prior' was trained below 500"):
        describe(config(models))
