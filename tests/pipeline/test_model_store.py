"""A store holds whole models or none, on a disk and on S3; a machine copies a model once; two who store agree."""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from servers import S3
from small_models import guided_diffusion, small_enhancer, small_prior
from web import Site, served

from pipeline.store import copies as copying
from pipeline.store import install
from pipeline.store.catalogue import CATALOGUE, Published, PublishedFile, by_sha256, published
from pipeline.store.checking import check
from pipeline.store.convert import convert
from pipeline.store.copies import local_folder
from pipeline.store.digest import sha256_of
from pipeline.store.errors import ModelError
from pipeline.store.install import Told, add, pull
from pipeline.store.keeping import ModelStore
from pipeline.store.places import open_store
from pipeline.store.record import Record, StoredFile, is_model_name


def quiet(done: int, total: int | None) -> None:
    pass


def add_file(store: ModelStore, path: Path, copies: Path, **told: object) -> Record:
    return add(store, str(path), copies, quiet, Told(**told))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "copies"


def a_published(site: Site, body: bytes, **facts: object) -> Published:
    from hashlib import sha256

    values: dict[str, object] = {"size": len(body), "sha256": sha256(body).hexdigest(), **facts}
    return Published(
        "theirs", "enhancer", "dr2e enhancer", "Apache-2.0", "https://example.org",
        (PublishedFile("weights.safetensors", site.url, **values),),  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_catalogue_is_sound() -> None:
    names = [model.name for model in CATALOGUE]
    assert len(set(names)) == len(names) and all(map(is_model_name, names))
    for model in CATALOGUE:
        assert model.page.startswith("https://") and model.architecture and model.licence
        for file in model.files:
            assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16))
            assert file.url is None or file.url.endswith(f"/{file.name}")
    assert published("google/ddpm-celebahq-256") is published("ddpm-celebahq-256")
    known = published("codeformer")
    assert known is not None and known.noncommercial and by_sha256(known.sha256 or "") is known
    assert not published("gfpgan-1.4").noncommercial  # type: ignore[union-attr]


def test_a_file_of_ours_is_stored_with_what_it_says(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    path = small_prior(tmp_path / "Prior of mine.safetensors")
    record = add_file(store, path, copies, name="mine")
    assert (record.role, record.architecture, record.licence) == ("prior", "dr2e prior", "Apache-2.0")
    assert record.settings == {"size": 128, "max_timestep": 1000}
    assert record.files == (StoredFile("Prior-of-mine.safetensors", path.stat().st_size, sha256_of(path)),)
    assert record.sha256 == sha256_of(path) and record.source == path.name
    assert store.find("mine") == record and store.records() == [record]
    told = json.loads((tmp_path / "store" / "mine" / "model.json").read_text())
    assert (told["sha256"], told["size"]) == (record.sha256, record.size)
    assert check(store, "mine", copies) == ""


def test_a_published_layout_is_recognised_by_its_tensors(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    torch.save(guided_diffusion(), tmp_path / "ema_0.9999.pt")
    record = add_file(store, tmp_path / "ema_0.9999.pt", copies, settings={"size": 64})
    assert (record.name, record.role, record.architecture) == ("ema_0.9999", "prior", "guided-diffusion")
    assert record.licence == "see its publisher" and record.settings == {"size": 64}
    with pytest.raises(ModelError, match="--role: it is a model of kind 'prior'"):
        add_file(store, tmp_path / "ema_0.9999.pt", copies, role="enhancer")


def test_a_file_whose_hash_nobody_publishes_is_taken_by_its_name(
    store: ModelStore, copies: Path, tmp_path: Path
) -> None:
    torch.save(guided_diffusion(), tmp_path / "download.pt")
    record = add_file(store, tmp_path / "download.pt", copies, name="ffhq_10m")
    assert (record.licence, record.files[0].name) == ("not stated", "ffhq_10m.pt")
    assert record.settings == {"size": 256, "attention": "legacy", "schedule": "linear"}
    torch.save({**guided_diffusion(), "out.2.bias": torch.ones(6)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="under this name"):  # what came first is pinned
        add_file(store, tmp_path / "other.pt", copies, name="ffhq_10m")


def test_a_folder_for_copies_that_cannot_be_made_is_named(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"file/copies: Not a directory; name another folder .* DR2E_MODELS_CACHE"):
        add(store, "http://127.0.0.1:1/x", tmp_path / "file" / "copies", quiet, Told())


def test_a_diffusers_folder_is_stored_and_loads(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    from diffusers import DDPMScheduler
    from priors import untrained

    folder = tmp_path / "ddpm"
    untrained(32, 8, 1000).network.save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    record = add_file(store, folder, copies, settings={"size": 32})
    assert record.name == "ddpm" and [file.name for file in record.files] == [
        "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json",
    ]  # fmt: skip
    assert check(store, "ddpm", copies) == ""


def test_a_name_belongs_to_its_bytes(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    first = add_file(store, small_enhancer(tmp_path / "a.safetensors"), copies, name="it")
    assert add_file(store, tmp_path / "a.safetensors", copies, name="it") == first
    with pytest.raises(ModelError, match=r"holds weights with SHA-256 .* not .*; choose another --name"):
        add_file(store, small_enhancer(tmp_path / "b.safetensors", seed=2), copies, name="it")
    for name in ("builtin", "Upper", "a/b", "..", ""):
        if name:
            with pytest.raises(ModelError, match="--name"):
                add_file(store, tmp_path / "a.safetensors", copies, name=name)
    assert store.remove("it") and not store.remove("it") and store.records() == []


def test_a_file_under_a_published_name_is_the_published_one(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    path = small_enhancer(tmp_path / "a.safetensors")
    known = published("gfpgan-1.4")
    assert known is not None
    with pytest.raises(
        ModelError, match=f"has SHA-256 {sha256_of(path)}, not {known.sha256} as published; nothing was"
    ):
        add_file(store, path, copies, name="gfpgan-1.4")
    assert store.records() == []


def test_damage_in_a_store_is_found_before_it_is_used(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    record = add_file(store, small_enhancer(tmp_path / "a.safetensors"), copies, name="it")
    file = tmp_path / "store" / record.folder / "a.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=rf"it: {file} has SHA-256 .*, not {record.sha256} as when it was stored"):
        local_folder(store, record, copies)
    assert "as when it was stored" in check(store, "it", copies)
    file.unlink()
    assert "is missing, which its record names" in check(store, "it", copies)
    (tmp_path / "store" / "it" / "model.json").write_text('{"name": "it", "files": [{"name": "../../x"}]}')
    assert "is damaged; remove the model" in check(store, "it", copies)
    assert "it is not in the store" in check(store, "other", copies)


def test_a_record_of_a_strange_store_cannot_leave_it() -> None:
    record = Record("it", "enhancer", "x", "y", (StoredFile("../../up.pth", 1, "0" * 64),), "z")
    with pytest.raises(ModelError, match="is no record of a model"):
        Record.decoded(record.encoded(), "model.json")


def test_pulling_checks_what_came_and_stores_nothing_else(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    body = small_enhancer(tmp_path / "a.safetensors").read_bytes()
    with served(Site(body, signature="sig=HUSH")) as site:
        known = a_published(site, body)
        wrong = a_published(site, body, sha256="0" * 64)
        with pytest.raises(
            ModelError, match=rf"gives has SHA-256 {known.sha256}, not {'0' * 64} as published"
        ) as caught:
            pull(store, wrong, copies, quiet, url=f"{site.url}?sig=HUSH")
        assert "HUSH" not in str(caught.value) and store.records() == []
        record = pull(store, known, copies, quiet, url=f"{site.url}?sig=HUSH")
        asked = len(site.seen)
        assert pull(store, known, copies, quiet, url=f"{site.url}?sig=HUSH") == record and len(site.seen) == asked
    assert record.sha256 == known.sha256 and record.source == site.url
    assert "HUSH" not in "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.json"))
    assert not list((copies / "downloads").iterdir())


def test_a_web_page_is_not_stored_as_weights(store: ModelStore, copies: Path) -> None:
    with served(Site(b"<!DOCTYPE html><html>log in</html>")) as site:
        with pytest.raises(ModelError, match="is a web page and no weights"):
            pull(store, a_published(site, b"", size=None, sha256=None), copies, quiet)
        with pytest.raises(ModelError, match=f"^{site.url} is a web page and no weights"):
            add(store, site.url, copies, quiet, Told(name="it"))
    assert store.records() == []


def test_what_only_a_drive_has_is_told(store: ModelStore, copies: Path) -> None:
    known = published("ffhq_10m")
    assert known is not None
    with pytest.raises(
        ModelError, match=r"no program can download it; get ffhq_10m.pt as .* 'dr2e models add ffhq_10m.pt"
    ):
        pull(store, known, copies, quiet)


def _pull(place: str, copies: Path, known: Published) -> None:
    pull(open_store(place), known, copies, quiet)


def test_two_who_pull_at_once_download_once(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    body = small_enhancer(tmp_path / "a.safetensors").read_bytes()
    with served(Site(body)) as site:
        known = a_published(site, body)
        context = multiprocessing.get_context("fork")
        both = [context.Process(target=_pull, args=(store.url, copies, known)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
    assert site.sent == len(body)
    assert [record.name for record in store.records()] == ["theirs"]


def test_who_loses_the_race_for_a_name_says_so(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    add_file(store, small_enhancer(tmp_path / "a.safetensors"), copies, name="it")
    body = b"other"
    record = Record("it", "enhancer", "x", "y", (StoredFile("w.pth", 5, "0" * 64),), "z")
    (tmp_path / "w.pth").write_bytes(body)
    found, store.find = store.find, lambda name: None  # type: ignore[method-assign]  # as it was a moment ago
    with pytest.raises(ModelError, match="holds nothing any more"):
        store.put(record, {"w.pth": tmp_path / "w.pth"})
    store.find = found  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="holds weights with SHA-256"):
        store.put(record, {"w.pth": tmp_path / "w.pth"})


def test_two_models_of_one_name_and_one_file_name_do_not_mix(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine" / "w.safetensors", tmp_path / "theirs" / "w.safetensors"
    mine.parent.mkdir(), theirs.parent.mkdir()
    small_enhancer(mine), small_enhancer(theirs, seed=2)
    other = open_store(store.url)
    create = store.location.put_if_absent

    def after_another(name: str, body: bytes) -> bool:  # between the files and the record of the first
        store.location.put_if_absent = create  # type: ignore[method-assign]
        add_file(other, theirs, copies, name="it")
        return create(name, body)

    store.location.put_if_absent = after_another  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="holds weights with SHA-256"):
        add_file(store, mine, copies, name="it")
    record = store.find("it")
    assert record is not None and record.sha256 == sha256_of(theirs) and check(store, "it", copies) == ""
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert sorted(path.name for path in stored) == ["model.json", "w.safetensors"]  # nothing of who lost


def test_a_damaged_record_hides_no_other(store: ModelStore, copies: Path, tmp_path: Path) -> None:
    record = add_file(store, small_enhancer(tmp_path / "a.safetensors"), copies, name="it")
    for name, text in (("bad", "{"), ("worse", '{"files": [{"name": "x", "size": Infinity, "sha256": ""}]}')):
        store.location.put(f"{name}/model.json", text.encode())
    records, damaged = store.contents()
    assert records == store.records() == [record] and store.names() == ["bad", "it", "worse"]
    assert list(damaged) == ["bad", "worse"] and "is damaged; remove the model" in damaged["worse"]
    assert store.remove("bad") and store.names() == ["it", "worse"]


def test_a_store_on_s3_is_copied_once_per_machine(s3: S3, copies: Path, tmp_path: Path, monkeypatch) -> None:
    store = open_store(s3.folder(), s3.options)
    path = small_enhancer(tmp_path / "a.safetensors")
    store.location.put("incoming/a.safetensors", path)
    record = add(store, f"{store.url}/incoming/a.safetensors", copies, quiet, Told(name="it"), s3.options)
    store.location.delete("incoming/a.safetensors")
    assert store.records() == [record] and not store.accepted("it")
    store.accept(record)
    assert store.accepted("it")

    fetches: list[str] = []
    fetch = store.location.fetch
    monkeypatch.setattr(store.location, "fetch", lambda name, to: (fetches.append(name), fetch(name, to)))
    with ThreadPoolExecutor(4) as workers:  # a lock is of an open file, so threads stand for processes here
        (folder,) = set(workers.map(lambda _: local_folder(store, record, copies), range(4)))
    assert (folder / "a.safetensors").read_bytes() == path.read_bytes()
    assert local_folder(store, record, copies) == folder and fetches == [f"{record.folder}/a.safetensors"]
    (folder / "a.safetensors").write_bytes(b"rotten")  # a copy that is not whole any more
    local_folder(store, record, copies)
    assert (folder / "a.safetensors").read_bytes() == path.read_bytes() and len(fetches) == 2
    assert check(store, "it", copies) == "" and len(fetches) == 3

    store.location.put(f"{record.folder}/a.safetensors", b"x" * record.size)  # somebody wrote past the store
    with pytest.raises(ModelError, match="as when it was stored"):
        local_folder(store, record, copies, anew=True)
    copying.check_in_place(store, record)  # the size is right, and more is not looked at from afar
    store.location.put(f"{record.folder}/a.safetensors", b"x")
    with pytest.raises(ModelError, match=r"has 1 bytes, not [\d,]+"):
        copying.check_in_place(store, record)
    assert store.remove("it") and store.location.entries() == []


def test_a_lock_is_freed_by_the_end_of_its_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    holder = context.Process(target=_hold, args=(tmp_path / "lock",))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    holder.kill()
    with copying.alone(tmp_path / "lock"):
        pass
    holder.join()


def _hold(lock: Path) -> None:
    with copying.alone(lock):
        (lock.parent / "held").touch()
        time.sleep(60)


def test_converting_keeps_every_tensor_and_what_was_said(tmp_path: Path) -> None:
    state = guided_diffusion()
    torch.save({"ema": state, "optimizer": {"lr": 1.0}}, tmp_path / "a.pt")
    out = tmp_path / "out.safetensors"
    assert convert(tmp_path / "a.pt", out, {"licence": "MIT"}) == out.stat().st_size
    from safetensors import safe_open
    from safetensors.torch import load_file

    found = load_file(out)
    assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)
    with safe_open(str(out), framework="pt") as file:
        said = file.metadata()
    assert said["licence"] == "MIT" and said["architecture"] == "guided-diffusion"
    assert said["sha256_of_source"] == sha256_of(tmp_path / "a.pt")
    with pytest.raises(ModelError, match="is there; name another file"):
        convert(tmp_path / "a.pt", out)
    with pytest.raises(ModelError, match=r"ends in \.safetensors"):
        convert(tmp_path / "a.pt", tmp_path / "out.pt")
    ours = convert(small_enhancer(tmp_path / "e.safetensors"), tmp_path / "e2.safetensors")
    assert ours and install.recognise(tmp_path / "e2.safetensors").name == "small"
