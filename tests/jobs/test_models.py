"""`dr2e models`: what it lists, stores, refuses and shows, on a disk of one's own and a server of one's own."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from small_models import guided_diffusion, small_enhancer
from web import Site, served

from jobs import cli
from jobs.models import command
from operators.dr2.schedule import Schedule
from pipeline.config import Config, load
from pipeline.loaders import load_prior
from pipeline.models import ModelError, describe
from pipeline.store import catalogue
from pipeline.store.catalogue import Published, PublishedFile
from pipeline.store.places import open_store


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store and copies of the test's own."""
    monkeypatch.setenv("DR2E_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("DR2E_MODELS_CACHE", str(tmp_path / "copies"))
    return tmp_path / "store"


def dr2e(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def answer(*arguments: str) -> str:
    result = dr2e(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.output


def refused(*arguments: str) -> str:
    """The one line of a refusal, which ends a command with exit code 2."""
    result = dr2e(*arguments)
    assert isinstance(result.exception, ModelError), result.output
    return str(result.exception)


def run(**settings: str) -> Config:
    return load(None, [], {"input": "in", "output": "out", "restore.n": 4, "restore.tau": 40, **settings})


def a_catalogue(monkeypatch: pytest.MonkeyPatch, body: bytes, url: str | None, licence: str) -> None:
    """One published model in place of all: `theirs`."""
    file = PublishedFile("weights.safetensors", url, len(body), sha256(body).hexdigest())
    theirs = Published("theirs", "enhancer", "dr2e enhancer", licence, "https://example.org/theirs", (file,))
    monkeypatch.setattr(catalogue, "CATALOGUE", (theirs,))
    monkeypatch.setattr("jobs.store.tables.CATALOGUE", (theirs,))


def test_errors_of_the_store_are_the_users_and_end_with_2(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["dr2e", "models", "pull", "nothing-like-it"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.USAGE
    assert capsys.readouterr().err.startswith("dr2e: nothing-like-it is not known; published models are ffhq_10m, ")


def test_every_command_explains_itself() -> None:
    for name, each in command.commands.items():
        told = answer(name, "--help")
        assert (each.help and f"dr2e models {name}" in told) or name == "remove"


def test_what_is_known_and_what_is_stored_are_listed_alike(place: Path, tmp_path: Path) -> None:
    small_enhancer(tmp_path / "e.safetensors")
    assert "stored in" in answer("add", str(tmp_path / "e.safetensors"), "--name", "ours")
    listed = {row["name"]: row for row in json.loads(answer("list", "--json"))}
    assert listed["gfpgan-1.4"]["sha256"].startswith("e2cd4703ab14") and not listed["gfpgan-1.4"]["installed"]
    assert listed["ours"]["installed"] and listed["ours"]["record"]["architecture"] == "dr2e enhancer"
    assert listed["codeformer"]["noncommercial"] and listed["codeformer"]["accepted"] is False
    table = answer("list", "--role", "enhancer")
    assert "ours" in table and "codeformer" in table and "ffhq_10m" not in table
    assert "S-Lab-1.0*" in table and "* forbids commercial use" in table
    assert "size not published" in answer("show", "vqfr-v2")
    assert "e.safetensors" in answer("show", "ours")
    assert refused("show", "nothing").startswith("nothing is not known")


def test_a_model_is_pulled_acknowledged_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = small_enhancer(tmp_path / "a.safetensors", "CC-BY-NC-4.0").read_bytes()
    with served(Site(body)) as site:
        a_catalogue(monkeypatch, body, site.url, "CC-BY-NC-4.0")
        told = answer("pull", "theirs")
        assert "licence CC-BY-NC-4.0" in told and "not to be used yet" in told
        with pytest.raises(ModelError, match=r"theirs: its licence \(CC-BY-NC-4.0\) forbids commercial use"):
            describe(run(**{"enhance.enhancer": "theirs"}))
        found = describe(run(**{"enhance.enhancer": "theirs", "models.accept": ["theirs"]})).enhancer
        assert (found.name, found.licence, found.sha256) == ("theirs", "CC-BY-NC-4.0", sha256(body).hexdigest())
        assert "not to be used yet" not in answer("pull", "theirs", "--accept-licence")
    assert describe(run(**{"enhance.enhancer": "theirs"})).enhancer.name == "theirs"
    assert json.loads(answer("show", "theirs", "--json"))["accepted"] is True
    assert site.sent == len(body)


def test_a_noncommercial_file_is_known_by_its_bytes_wherever_it_lies(tmp_path, monkeypatch) -> None:
    path = tmp_path / "some.pth"
    torch.save({"conv.weight": torch.ones(1)}, path)
    a_catalogue(monkeypatch, path.read_bytes(), None, "CC-BY-NC-4.0")
    with pytest.raises(ModelError, match="forbids commercial use"):
        describe(run(**{"enhance.enhancer": str(path)}))
    found = describe(run(**{"enhance.enhancer": str(path), "models.accept": ["theirs"]})).enhancer
    assert (found.source, found.name, found.licence) == (str(path), "theirs", "CC-BY-NC-4.0")


def test_an_address_may_be_signed_and_nobody_sees_how(place: Path, tmp_path: Path) -> None:
    body = small_enhancer(tmp_path / "a.safetensors").read_bytes()
    with served(Site(body, signature="sig=HUSH")) as site:
        told = answer("add", f"{site.url.replace('weights.pth', 'mine.safetensors')}?sig=HUSH", "--json")
        assert "HUSH" not in refused("add", f"{site.url}?sig=HUSH-not")
    record = json.loads(told)
    assert record["source"] == site.url.replace("weights.pth", "mine.safetensors")
    stored = "".join(path.read_text(errors="replace") for path in place.rglob("*.json"))
    assert "HUSH" not in told + stored + answer("list", "--json")


def test_verify_finds_damage_and_says_so_with_its_exit_code(place: Path, tmp_path: Path) -> None:
    assert "holds no models" in answer("verify")
    answer("add", str(small_enhancer(tmp_path / "e.safetensors")), "--name", "ours")
    assert answer("verify", "ours") == "ours: well\n"
    next((place / "ours").glob("*/e.safetensors")).write_bytes(b"")
    result = dr2e("verify", "--json")
    (found,) = json.loads(result.output)
    assert (result.exit_code, found["well"]) == (1, False) and "when it was stored" in found["trouble"]


def test_convert_takes_names_and_files(place: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    torch.save(guided_diffusion(), tmp_path / "adm.pt")
    answer("add", str(tmp_path / "adm.pt"), "--name", "adm", "--size", "64", "--licence", "MIT")
    answer("convert", "adm", str(tmp_path / "one.safetensors"))
    answer("convert", str(tmp_path / "adm.pt"), str(tmp_path / "two.safetensors"))
    with safe_open(str(tmp_path / "one.safetensors"), framework="pt") as one:
        assert one.metadata()["licence"] == "MIT" and set(one.keys()) == set(guided_diffusion())
    assert "not in the store" in refused("convert", "nothing", str(tmp_path / "three.safetensors"))


def test_what_a_prior_does_not_say_of_itself_is_told_and_kept(place: Path, tmp_path: Path) -> None:
    torch.save(guided_diffusion(), tmp_path / "adm.pt")
    answer("add", str(tmp_path / "adm.pt"), "--attention-order", "new", "--schedule", "cosine", "--size", "64")
    record = json.loads(answer("show", "adm", "--json"))["record"]
    assert record["settings"] == {"attention": "new", "schedule": "cosine", "size": 64}
    prior = load_prior(load(None, [], {"input": ["x"], "output": "y", "restore.prior": "adm"}), "cpu")
    assert prior.size == 64
    assert prior.schedule.alpha_bar[-1] == pytest.approx(Schedule.cosine().alpha_bar[-1])
    assert prior.schedule.alpha_bar[500] != pytest.approx(Schedule.linear().alpha_bar[500])


def test_remove_forgets_the_model_and_its_acknowledgement(place: Path, tmp_path: Path) -> None:
    path = small_enhancer(tmp_path / "e.safetensors", "CC-BY-NC-4.0")
    answer("add", str(path), "--name", "ours", "--accept-licence")
    assert open_store().accepted("ours")
    answer("remove", "ours")
    assert "not in the store" in refused("remove", "ours") and "not in the store" in refused("remove", "../x")
    assert "not to be used yet" in answer("add", str(path), "--name", "ours")


def test_a_store_may_be_named_before_the_command(tmp_path: Path) -> None:
    path = str(small_enhancer(tmp_path / "e.safetensors"))
    answer("--store", str(tmp_path / "elsewhere"), "add", path, "--name", "ours")
    assert (tmp_path / "elsewhere" / "ours" / "model.json").is_file() and open_store().find("ours") is None
    assert "credentials" in str(dr2e("--store", "s3://KEY:HUSH@bucket/x", "list").exception)


def test_accept_acknowledges_what_is_stored_under_any_name(tmp_path: Path) -> None:
    path = str(small_enhancer(tmp_path / "e.safetensors", "CC-BY-NC-4.0"))
    assert "'dr2e models accept mine'" in answer("add", path, "--name", "mine")
    with pytest.raises(ModelError, match="'dr2e models accept mine'"):
        describe(run(**{"enhance.enhancer": "mine"}))
    assert "CC-BY-NC-4.0 acknowledged" in answer("accept", "mine")
    assert describe(run(**{"enhance.enhancer": "mine"})).enhancer.licence == "CC-BY-NC-4.0"
    small_enhancer(tmp_path / "free.safetensors")
    answer("add", str(tmp_path / "free.safetensors"), "--name", "free")
    assert "needs no acknowledgement" in answer("accept", "free")
    assert "not in the store" in refused("accept", "codeformer") and "not in the store" in refused("accept", "../x")


def test_a_damaged_record_is_listed_as_such(place: Path, tmp_path: Path) -> None:
    answer("add", str(small_enhancer(tmp_path / "e.safetensors")), "--name", "ours")
    for name in ("torn", "gfpgan-1.4"):
        (place / name).mkdir()
        (place / name / "model.json").write_text("{")
    listed = {row["name"]: row for row in json.loads(answer("list", "--json"))}
    assert listed["ours"]["damaged"] is None and "is damaged" in listed["torn"]["damaged"]
    assert listed["gfpgan-1.4"]["damaged"] and not listed["gfpgan-1.4"]["installed"]
    told = answer("list")
    assert "ours" in told and "is damaged; remove the model" in told
    assert "is damaged" in answer("show", "torn") and "is damaged" in answer("show", "gfpgan-1.4")
    assert "torn: " in dr2e("verify").output
    answer("remove", "torn")


def test_show_says_in_which_folder_a_model_is(place: Path, tmp_path: Path) -> None:
    answer("add", str(small_enhancer(tmp_path / "e.safetensors")), "--name", "ours")
    folder = Path(json.loads(answer("show", "ours", "--json"))["folder"])
    assert (folder / "e.safetensors").is_file() and f"folder   {folder}" in answer("show", "ours")
    assert "dr2e evaluate --weights" in answer("show", "lpips")
