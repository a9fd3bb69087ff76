"""Models are found and identified before anything starts."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
import torch

from operators.training.weights import save_weights
from pipeline.config import Config, build
from pipeline.models import ROLES, ModelError, describe


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
        assert (found.name, found.sha256) == ("RetinaFace", sha256(file))


def test_a_diffusers_folder_says_its_size(models):
    folder = models / "ddpm" / "unet"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"sample_size": 256}))
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    found = describe(config(models, prior=str(models / "ddpm")))
    assert (found.face_size, found.prior.name) == (256, "ddpm")
    assert found.prior.sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_folder_that_is_no_model_is_refused(models):
    (models / "empty").mkdir()
    with pytest.raises(ModelError, match="does not describe a diffusers UNet2DModel"):
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
