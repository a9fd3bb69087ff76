"""Models are found and identified before anything starts."""

import hashlib
import json

import pytest
import torch

from operators.training.weights import save_weights
from pipeline.config import Config, build
from pipeline.models import ModelError, describe


@pytest.fixture
def models(tmp_path):
    """Settings that name four small models of our own format."""
    descriptions = {"detector": {}, "prior": {"spec": {"size": 64, "max_timestep": 500}}, "niqe": {}, "enhancer": {}}
    for kind, more in descriptions.items():
        description = {"kind": kind, "name": f"my {kind}", "licence": "Apache-2.0", **more}
        save_weights(tmp_path / f"{kind}.safetensors", {"x": torch.ones(2)}, description)
    return tmp_path


def config(models, **changes: str) -> Config:
    names = {kind: str(models / f"{kind}.safetensors") for kind in ("detector", "prior", "niqe", "enhancer")} | changes
    return build(
        {
            "input": "in",
            "output": "out",
            "detect": {"detector": names["detector"]},
            "restore": {
                "prior": names["prior"],
                "niqe": names["niqe"],
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
    assert set(found.to_json()) == {"detector", "prior", "niqe", "enhancer"}


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


def test_retinaface_is_looked_for_in_its_folder(models):
    with pytest.raises(ModelError, match=r"detection_Resnet50_Final\.pth is missing"):
        describe(config(models, detector=f"retinaface:{models}"))
    (models / "detection_Resnet50_Final.pth").write_bytes(b"weights")
    assert describe(config(models, detector=f"retinaface:{models}")).detector.name == "RetinaFace"


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
