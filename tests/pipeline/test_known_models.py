"""What is taken for a published model, what a file says of itself, and what is refused under whose name."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from small_models import guided_diffusion, small_enhancer, small_prior
from web import Site, served

from pipeline.config import load
from pipeline.models import describe
from pipeline.storage import StorageError
from pipeline.store import catalogue
from pipeline.store.catalogue import CATALOGUE, Published, PublishedFile
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError
from pipeline.store.install import Told, add, pull
from pipeline.store.keeping import ModelStore
from pipeline.store.named import is_stored_name
from pipeline.store.places import open_store
from pipeline.store.record import Record, StoredFile, is_file_name, is_model_name


def quiet(done: int, total: int | None) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("DR2E_MODELS", str(tmp_path / "store"))
    return open_store()


def add_file(store: ModelStore, path: Path, **told: object) -> Record:
    return add(store, str(path), path.parent / "copies", quiet, Told(**told))  # type: ignore[arg-type]


def only(monkeypatch: pytest.MonkeyPatch, **facts: object) -> Published:
    """A catalogue of one model, `theirs`."""
    facts = {"role": "prior", "architecture": "guided-diffusion", "licence": "MIT", **facts}
    files = facts.pop("files", (PublishedFile("weights.pt"),))
    theirs = Published("theirs", page="https://example.org", files=files, **facts)  # type: ignore[arg-type]
    monkeypatch.setattr(catalogue, "CATALOGUE", (theirs,))
    return theirs


@pytest.fixture
def adm(tmp_path: Path) -> Path:
    torch.save(guided_diffusion(), tmp_path / "adm.pt")
    return tmp_path / "adm.pt"


@pytest.fixture
def swinir(tmp_path: Path) -> Path:
    pytest.importorskip("spandrel")
    from swinirs import SMALL, checkpoint

    torch.save(checkpoint(SMALL), tmp_path / "swinir.ckpt")
    return tmp_path / "swinir.ckpt"


def test_the_catalogue_calls_architectures_as_they_are_recognised() -> None:
    pytest.importorskip("spandrel")
    from spandrel import MAIN_REGISTRY

    from operators.enhance.registry import ARCHITECTURES
    from pipeline.store.recognise import KINDS

    names = {
        "enhancer": {architecture.name for architecture in ARCHITECTURES},
        "upscaler": {support.architecture.name for support in MAIN_REGISTRY.architectures()},
        "metric": {"LPIPS AlexNet", "Inception-v3", "ArcFace IR-SE-50"},
    }
    for kind in KINDS:
        names.setdefault(kind.role, set()).add(kind.architecture)
    names["prior"].add("diffusers UNet2DModel")
    assert [model.name for model in CATALOGUE if model.architecture not in names[model.role]] == []


def test_a_remover_has_its_size_however_it_came(store: ModelStore, swinir: Path, monkeypatch) -> None:
    assert add_file(store, swinir, name="mine").settings == {"size": 128}
    body = swinir.read_bytes()
    with served(Site(body)) as site:
        file = PublishedFile(
            "weights.ckpt", site.url.replace("weights.pth", "weights.ckpt"), len(body), sha256_of(swinir)
        )
        theirs = only(monkeypatch, role="remover", architecture="SwinIR", files=(file,))
        assert pull(store, theirs, swinir.parent / "copies", quiet).settings == {"size": 128}
        store.remove("theirs")
        assert add_file(store, swinir).settings == {"size": 128}
    assert store.find("theirs") is not None
    settings = {"input": "in", "output": "out", "restore.remover": "theirs"}
    assert describe(load(None, [], settings)).face_size == 128


def test_a_diffusers_folder_says_its_size_and_only_its_own_files_are_stored(store: ModelStore, tmp_path: Path) -> None:
    from diffusers import DDPMScheduler
    from priors import untrained

    folder = tmp_path / "faces of mine"
    untrained(32, 8, 1000).network.save_pretrained(folder / "unet")
    DDPMScheduler(num_train_timesteps=400).save_pretrained(folder / "scheduler")
    for name in ("notes of mine.json", "model.json", "unet/diffusion_pytorch_model.bin", "other.safetensors"):
        (folder / name).write_bytes(b"{}")
    with pytest.raises(ModelError, match="size is 32, as its file says, and not 64"):
        add_file(store, folder, settings={"size": 64})
    with pytest.raises(ModelError, match="schedule is not told of a diffusers UNet2DModel"):
        add_file(store, folder, settings={"schedule": "cosine"})
    record = add_file(store, folder)
    assert record.settings == {"size": 32, "max_timestep": 400}
    assert [file.name for file in record.files] == [
        "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json",
    ]  # fmt: skip
    settings = {"input": "in", "output": "out", "restore.prior": "faces-of-mine", "restore.n": 4, "restore.tau": 40}
    found = describe(load(None, [], settings))
    assert (found.face_size, found.max_timestep) == (32, 400)
    with pytest.raises(ModelError, match="says size 32, and the published model has 256"):
        add_file(store, folder, name="ddpm-celebahq-256")
    with pytest.raises(ModelError, match=r"holds no config\.json; name a weights file"):
        add_file(store, tmp_path / "store")


def test_settings_are_told_of_priors_alone_and_never_against_the_file(
    store: ModelStore, tmp_path: Path, adm: Path
) -> None:
    with pytest.raises(ModelError, match=r"are for priors; it is a model of kind 'enhancer'"):
        add_file(store, small_enhancer(tmp_path / "e.safetensors"), settings={"size": 128})
    with pytest.raises(ModelError, match="size is 128, as its file says, and not 64"):
        add_file(store, small_prior(tmp_path / "p.safetensors"), settings={"size": 64})
    with pytest.raises(ModelError, match="size is 5000, and no whole number from 8 to 4096"):
        add_file(store, adm, settings={"size": 5000})
    assert store.records() == []


@pytest.mark.parametrize(
    "settings",
    [{"size": "256"}, {"size": True}, {"size": 7}, {"max_timestep": 0}, {"max_timestep": 1e3}, {"attention": ["new"]},
     {"schedule": "sigmoid"}, {"variance": None}, {"code": "x"}],
)  # fmt: skip
def test_a_record_with_other_settings_is_refused(settings: dict[str, object]) -> None:
    record = Record("it", "prior", "x", "y", (StoredFile("w.pt", 1, "0" * 64),), "z", settings)
    with pytest.raises(ModelError, match=f"model.json: {next(iter(settings))}|'code' is no setting"):
        Record.decoded(record.encoded(), "model.json")


def test_a_file_is_known_by_its_published_name_where_nobody_says_its_hash(store: ModelStore, adm: Path) -> None:
    record = add_file(store, adm.rename(adm.with_name("ffhq_10m.pt")))
    assert (record.name, record.licence) == ("ffhq_10m", "not stated")
    assert record.settings == {"size": 256, "attention": "legacy", "schedule": "linear"}
    with pytest.raises(ModelError, match=r"'dr2e models add ffhq_p2.pt --name ffhq_p2'"):
        describe(load(None, [], {"input": "in", "output": "out", "restore.prior": "ffhq_p2"}))


def test_another_kind_or_architecture_is_refused_under_a_published_name(
    store: ModelStore, adm: Path, tmp_path: Path, monkeypatch
) -> None:
    with pytest.raises(
        ModelError, match=r"it is of kind 'prior' .* the published model of kind 'enhancer' \(VQFR-v2\)"
    ):
        add_file(store, adm, name="vqfr-v2")
    small_enhancer(tmp_path / "e.safetensors", name="SPARNetHD")
    with pytest.raises(ModelError, match=r"sparnethd: .*\(dr2e enhancer\)"):  # by its own name, which nobody told
        add_file(store, tmp_path / "e.safetensors")
    with pytest.raises(ModelError, match=r"gfpgan-1\.4: .*has SHA-256 .* choose another --name"):
        add_file(store, small_enhancer(tmp_path / "gfpgan-1.4.pth.safetensors", name=""))
    monkeypatch.setattr(catalogue, "by_sha256", lambda _: catalogue.published("codeformer"))
    monkeypatch.setattr("pipeline.store.install.by_sha256", catalogue.by_sha256)  # as if it were that very file
    with pytest.raises(ModelError, match=r"gfpgan-1\.3: .*has SHA-256"):
        add_file(store, adm, name="gfpgan-1.3")
    monkeypatch.undo()
    with served(Site(adm.read_bytes())) as site:
        theirs = only(monkeypatch, role="enhancer", architecture="VQFR-v2", files=(PublishedFile("w.pth", site.url),))
        with pytest.raises(ModelError, match=rf"theirs: {site.url} is of kind 'prior'.*nothing was stored"):
            pull(store, theirs, tmp_path / "copies", quiet)
    assert store.records() == []


def test_one_file_of_several_is_sent_to_pull(store: ModelStore, adm: Path, monkeypatch) -> None:
    with pytest.raises(
        ModelError, match=r"lpips is 2 files \(LPIPS_.*\), and adm\.pt is one; .*'dr2e models pull lpips'"
    ):
        add_file(store, adm, name="lpips")
    parts = (PublishedFile("a.pth", None, None, sha256_of(adm)), PublishedFile("b.pth", None, None, "0" * 64))
    only(monkeypatch, role="metric", files=parts)
    with pytest.raises(ModelError, match="theirs is 2 files"):
        add_file(store, adm)


@pytest.mark.parametrize("name", ["weights", "weights.v2", "weights.download", "Weights.PTH", "weights.json"])
def test_a_file_may_be_called_anything(store: ModelStore, tmp_path: Path, name: str) -> None:
    small_enhancer(tmp_path / "e.safetensors").rename(tmp_path / name)
    if name == "Weights.PTH":
        torch.save(guided_diffusion(), tmp_path / name)
    record = add_file(store, tmp_path / name, name="it")
    suffix = ".pth" if name == "Weights.PTH" else ".safetensors"
    assert record.files[0].name == (f"{name}{suffix}" if name != "Weights.PTH" else "Weights.pth")
    assert record.role == ("enhancer" if suffix == ".safetensors" else "prior")
    with served(Site((tmp_path / name).read_bytes())) as site:
        address = site.url.replace("weights.pth", name)
        assert add(store, address, tmp_path / "copies", quiet, Told(name="far")).role == record.role


def test_a_complaint_names_the_file_that_the_user_has(store: ModelStore, tmp_path: Path) -> None:
    state = {key: value for key, value in guided_diffusion().items() if not key.startswith("output_blocks.3")}
    torch.save(state, tmp_path / "half of it")
    with pytest.raises(ModelError, match=f"{tmp_path}/half of it") as caught:
        add_file(store, tmp_path / "half of it", name="it")
    assert "dr2e-" not in str(caught.value)
    (tmp_path / "torn.safetensors").write_bytes(b"torn to pieces")
    with pytest.raises(ModelError, match=rf"^{tmp_path}/torn\.safetensors"):
        add_file(store, tmp_path / "torn.safetensors", name="it")


def test_trouble_of_the_system_is_one_line(store: ModelStore, tmp_path: Path, monkeypatch) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    path = small_enhancer(tmp_path / "e.safetensors")
    record = add_file(store, path, name="it")
    from pipeline.store import copies, install

    monkeypatch.setattr(copies, "sha256_of", denied)
    with pytest.raises(ModelError, match=r"e\.safetensors: Permission denied$"):
        copies.local_folder(store, record, tmp_path / "copies")
    monkeypatch.setattr(install, "sha256_of", denied)
    with pytest.raises(ModelError, match=rf"^{path}: Permission denied$"):
        add_file(store, path, name="other")


def test_names_that_no_run_could_use_are_refused(store: ModelStore, tmp_path: Path) -> None:
    assert not is_model_name("x.pth") and not is_model_name("x.safetensors") and is_model_name("gfpgan-1.4")
    with pytest.raises(ModelError, match=r"--name: 'x\.pth' is no name; .*no ending of a weights file"):
        add_file(store, small_enhancer(tmp_path / "e.safetensors"), name="x.pth")
    torch.save(guided_diffusion(), tmp_path / "twice.pth.pt")
    record = add_file(store, tmp_path / "twice.pth.pt")
    assert record.name == "twice" and is_stored_name(load(None, [], {"input": "i", "output": "o"}), record.name)
    assert not is_file_name("model.json") and not is_file_name("licence.json")


def test_what_was_downloaded_stays_until_it_is_stored(store: ModelStore, tmp_path: Path, monkeypatch) -> None:
    body = small_enhancer(tmp_path / "a.safetensors").read_bytes()
    put = store.location.put
    for known_hash in (sha256(body).hexdigest(), None):
        with served(Site(body)) as site:
            file = PublishedFile("weights.safetensors", site.url, len(body), known_hash)
            theirs = only(monkeypatch, role="enhancer", architecture="dr2e enhancer", files=(file,))

            def full(name: str, what: object) -> None:
                raise StorageError("the bucket is full")

            monkeypatch.setattr(store.location, "put", full)
            with pytest.raises(StorageError, match="full"):
                pull(store, theirs, tmp_path / "copies", quiet)
            monkeypatch.setattr(store.location, "put", put)
            assert pull(store, theirs, tmp_path / "copies", quiet).size == site.sent == len(body)
        assert not list((tmp_path / "copies" / "downloads").iterdir())
        store.remove("theirs")


def test_a_missing_model_is_replaced_by_what_its_role_knows(store: ModelStore) -> None:
    for setting, instead in [
        ("restore.remover", "'dr2'"), ("write.parser", "'none'"), ("enhance.enhancer", "'builtin'"),
    ]:  # fmt: skip
        with pytest.raises(ModelError, match=f"name {instead}, a file, or"):
            describe(load(None, [], {"input": "in", "output": "out", setting: "nothing-like-it"}))


def test_a_metric_is_loaded_when_it_is_read_back(store: ModelStore, tmp_path: Path) -> None:
    from torchvision.models import alexnet

    from operators.quality.metrics.names import LPIPS_BACKBONE, LPIPS_HEADS
    from pipeline.store.checking import check

    paths = {file.name: tmp_path / file.name for file in (LPIPS_HEADS, LPIPS_BACKBONE)}
    features = alexnet(weights=None).features.state_dict()
    torch.save({f"features.{key}": value for key, value in features.items()}, paths[LPIPS_BACKBONE.name])
    heads = {f"lin{k}.model.1.weight": torch.ones(1, n, 1, 1) for k, n in enumerate((64, 192, 384, 256, 256))}
    for name, lacks in (("whole", ""), ("less", "lin4.model.1.weight")):
        torch.save({key: value for key, value in heads.items() if key != lacks}, paths[LPIPS_HEADS.name])
        files = tuple(StoredFile(file, path.stat().st_size, sha256_of(path)) for file, path in paths.items())
        store.put(Record(name, "metric", "LPIPS AlexNet", "BSD-2-Clause", files, "x"), paths)
    assert check(store, "whole", tmp_path / "copies") == ""
    assert f"{LPIPS_HEADS.name} lacks 'lin4.model.1.weight'" in check(store, "less", tmp_path / "copies")


@pytest.mark.parametrize("said", ["{", "[]", '{"kind": "prior"}', '{"kind": "prior", "spec": {"size": "big"}}'])
def test_a_file_that_describes_itself_in_nonsense_is_refused(store: ModelStore, tmp_path: Path, said: str) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "p.safetensors", metadata={"dr2e": said})
    with pytest.raises(ModelError, match=r"p\.safetensors does not describe itself|size is 'big'"):
        add_file(store, tmp_path / "p.safetensors")
