"""`dr2e pairs`: every pair once, made again of its sample, split by person, read by the loaders of the field."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from priors import untrained
from runs import Objects

from jobs.api import restore
from jobs.demonstration.photographs import eileen_collins, grace_hopper
from jobs.pairs import Summary, pairs
from jobs.report import report
from jobs.train_enhancer import command
from jobs.training.pair_stream import PairStream
from jobs.unpack import command as unpack
from operators.dr2.checkpoints import load_prior, save_prior
from operators.enhance import registry
from operators.pairs.maker import PairMaker
from operators.training.split import held_out
from operators.training.weights import load_weights
from pipeline.config import Config, ConfigError, load
from pipeline.inputs import InputError
from pipeline.members import licence
from pipeline.output import Output
from pipeline.pairs.again import low_quality
from pipeline.pairs.members import identity
from pipeline.tar import write_shard

SIZE, PER_FACE = 32, 3
Sample = dict[str, bytes]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = untrained(SIZE, 8, max_timestep=600)
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_prior(path, made.network, made.spec, made.schedule, name="random", licence="Apache-2.0")
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards: two people, twelve photos each, labelled; one too small, one turned away, one that is none."""
    folder = tmp_path_factory.mktemp("faces")
    for number, photograph in enumerate((eileen_collins(), grace_hopper())):
        members = []
        for take in range(12):
            key = f"person{number}_{take:02d}"
            pixels = np.roll(photograph.pixels, take, axis=2) if take % 3 else photograph.pixels
            landmarks = photograph.faces[0].copy()
            if (number, take) == (0, 3):
                pixels, landmarks = pixels[::8, ::8], landmarks / 8
            if (number, take) == (1, 4):
                landmarks[2, 0] += 60
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, format="JPEG", quality=95)
            told = {"landmarks5": landmarks.tolist(), "license": "public domain"}
            image = b"no photograph" if (number, take) == (1, 7) else out.getvalue()
            members += [(f"{key}.jpg", image), (f"{key}.json", json.dumps(told).encode())]
        write_shard(folder / f"faces-{number}.tar", members)
    return folder


def settings(faces: Path, output: Path, prior: Path) -> Config:
    chosen = [
        f"pairs.per_face={PER_FACE}", "pairs.recipe=dr2=0.5,classical=0.25,second-order=0.25", "pairs.size=64",
        "pairs.gate.turn=0.3", "unit.max_samples=5", "seed=5", f"restore.prior={prior}",
    ]  # fmt: skip
    return load(None, chosen, {"input": str(faces), "output": str(output)})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, faces: Path, prior: Path, cluster: str) -> tuple[Path, Summary]:
    output = tmp_path_factory.mktemp("pairs") / "out"
    return output, pairs(settings(faces, output, prior), progress=io.StringIO())


def samples(output: Path, folder: str = "*") -> dict[str, Sample]:
    """The samples of the listed shards, in their order: by key, the members by extension."""
    found: dict[str, Sample] = {}
    for split in ("train", "validation") if folder == "*" else (folder,):
        for name in (output / f"{split}.txt").read_text().split():
            with tarfile.open(output / name) as tar:
                for member in tar:
                    key, _, extension = member.name.partition(".")
                    file = tar.extractfile(member)
                    assert file is not None
                    found.setdefault(key, {})[extension] = file.read()
    return found


def test_every_good_face_becomes_its_pairs_and_the_rest_is_told(made: tuple[Path, Summary]) -> None:
    output, summary = made
    assert summary.left_out == {"gate.small": 1, "gate.turned": 1, "image.unreadable": 1}
    assert summary.faulty == 1 and summary.targets == 21
    found = samples(output)
    bad = {"person0_03", "person1_04", "person1_07"}
    keys = {f"person{number}_{take:02d}" for number in range(2) for take in range(12)} - bad
    assert set(found) == {f"{key}-{number}" for key in keys for number in range(PER_FACE)}
    assert all(set(sample) == {"lq.png", "hq.png", "json"} for sample in found.values())
    assert sum(summary.pairs.values()) == len(found)
    sides = {Image.open(io.BytesIO(sample["hq.png"])).size for sample in found.values()}
    assert sides == {(64, 64)}
    assert Output(output).verify() == []


def test_a_pair_is_made_again_of_its_sample_alone(made: tuple[Path, Summary], prior: Path) -> None:
    maker = PairMaker(SIZE, load_prior(str(prior)))
    recipes = set()
    for sample in samples(made[0]).values():
        told = json.loads(sample["json"])
        recipes.add(told["draw"]["recipe"])
        assert low_quality(told, sample["hq.png"], maker) == sample["lq.png"]
    assert recipes == {"dr2", "classical", "second-order"}


def test_nobody_is_in_both_splits_and_what_training_must_not_see_is_validation(made: tuple[Path, Summary]) -> None:
    train, validation = (
        {key.rpartition("-")[0] for key in samples(made[0], split)} for split in ("train", "validation")
    )
    assert train and validation and not train & validation
    assert all(map(held_out, validation)) and not any(map(held_out, train))
    assert identity("id7_03", r"^[^_]+") == "id7" and identity("id7_03", r"_(\d+)") == "03"
    assert identity("id7", "x") == identity("id7", None) == "id7"


def test_neighbours_come_from_far_apart(made: tuple[Path, Summary]) -> None:
    """Mean distance of neighbours' places in the input, a third of the unit's length in a random order."""
    output, _ = made
    distances, lengths = [], []
    for name in (output / "train.txt").read_text().split():
        with tarfile.open(output / name) as tar:
            keys = [member.name.rpartition("-")[0] for member in tar if member.name.endswith(".json")]
        places = [sorted(keys).index(key) for key in keys]
        distances += [abs(one - other) for one, other in itertools.pairwise(places)]
        lengths.append(len(keys))
    assert np.mean(distances) > 0.2 * np.mean(lengths)


def test_the_card_says_what_there_is(made: tuple[Path, Summary]) -> None:
    output, summary = made
    info = json.loads((output / "dataset_info.json").read_text())
    for split, count in summary.pairs.items():
        assert info["splits"][split]["num_examples"] == count == len(samples(output, split))
        assert [shard["name"] for shard in info["splits"][split]["shards"]] == (
            output / f"{split}.txt"
        ).read_text().split()
    assert sum(info["recipes"].values()) == sum(summary.pairs.values())
    assert info["left_out"] == summary.left_out and info["pairs"]["size"] == 64
    page = (output / "README.md").read_text()
    assert "| gate.turned | 1 |" in page and "contact.jpg" in page and (output / "contact.jpg").is_file()
    told = json.loads(next(iter(samples(output).values()))["json"])
    assert told["licence"] == "public domain"
    assert licence([("a.json", b"[1]"), ("b.json", b'{"licence": "x"}')]) is None


def test_commands_about_outputs_know_pairs(made: tuple[Path, Summary], tmp_path: Path) -> None:
    output = made[0]
    before = (output / "README.md").read_bytes()
    (output / "README.md").unlink()
    assert report(str(output)) == f"{output}/README.md"
    assert (output / "README.md").read_bytes() == before and not (output / "report.html").exists()
    with pytest.raises(ConfigError, match="holds pairs to train on"):
        CliRunner().invoke(unpack, [str(output), str(tmp_path)], catch_exceptions=False)


def train_a_little(batches: object) -> list[float]:
    """Losses of a few steps from lq to hq, each on a batch of (low, high) arrays."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for low, high in batches:  # type: ignore[attr-defined]
        x, y = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255 for images in (low, high))
        loss = torch.nn.functional.l1_loss(network(torch.nn.functional.interpolate(x, size=y.shape[-2:])), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_webdataset_trains_from_it(made: tuple[Path, Summary]) -> None:
    import webdataset

    output, _ = made
    urls = [str(output / name) for name in (output / "train.txt").read_text().split()]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("lq.png", "hq.png").batched(4)
    losses = train_a_little(itertools.islice(itertools.chain.from_iterable(itertools.repeat(dataset)), 40))
    assert losses[-1] < losses[0] / 2


def test_ray_data_trains_from_it(made: tuple[Path, Summary], cluster: str) -> None:
    import ray.data

    output, summary = made
    urls = [str(output / name) for name in (output / "train.txt").read_text().split()]
    rows = ray.data.read_webdataset(urls, decoder=None).take_all()
    assert len(rows) == summary.pairs["train"]
    several = [(pixels(row["lq.png"]), pixels(row["hq.png"])) for row in rows]
    batches = (
        tuple(zip(*several[start : start + 4], strict=True)) for start in itertools.cycle(range(0, len(several), 4))
    )
    losses = train_a_little(itertools.islice(batches, 40))
    assert losses[-1] < losses[0] / 2


def test_hugging_face_datasets_trains_from_it(made: tuple[Path, Summary], tmp_path: Path) -> None:
    """As the folder stands: the card's head names the tars of each split and no leftover of an attempt."""
    import datasets

    output, summary = made
    leftover = output / "shards" / "leftover.tar"
    write_shard(leftover, [("x-0.lq.png", b"no picture"), ("x-0.json", b"{}")])
    try:
        for split, count in summary.pairs.items():
            rows = datasets.load_dataset(str(output), split=split, cache_dir=str(tmp_path / "cache"))
            assert len(rows) == count
        rows = datasets.load_dataset(str(output), split="train", streaming=True)
        several = [(np.asarray(row["lq.png"]), np.asarray(row["hq.png"])) for row in rows.take(8)]
    finally:
        leftover.unlink()
    batches = (several[start : start + 4] for start in itertools.cycle((0, 4)))
    losses = train_a_little(itertools.islice((tuple(zip(*batch, strict=True)) for batch in batches), 40))
    assert losses[-1] < losses[0] / 2


def test_an_enhancer_trains_from_it_and_resumes_with_the_same_batches(
    made: tuple[Path, Summary], tmp_path: Path
) -> None:
    url = str(made[0])

    def train(out: str, *arguments: object) -> str:
        options = ["--pairs", url, "--out", tmp_path / out, "--size", SIZE, "--batch", 2, "--threads", 1]
        result = CliRunner().invoke(command, [str(word) for word in (*options, *arguments)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    said = train("whole", "--steps", 4)
    assert f"{made[1].pairs['train']} pairs to train on" in said and "| validation pairs |" in said
    halves = train("halves", "--steps", 4, "--minutes", 1e-9)
    assert "unfinished" in halves
    while "unfinished" in halves:
        halves = train("halves", "--steps", 4, "--minutes", 1e-9)
    one, other = (load_weights(tmp_path / out / "enhancer.safetensors", "enhancer") for out in ("whole", "halves"))
    assert all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    assert one[1]["licence"] == "that of the pairs it was trained on"
    side = registry.load(tmp_path / "whole" / "enhancer.safetensors").enhance(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    assert side.shape == (1, 2 * SIZE, 2 * SIZE, 3)


def test_a_stream_goes_through_every_pair_once_before_any_twice(made: tuple[Path, Summary]) -> None:
    stream = PairStream(str(made[0]), seed=1)
    rounds = [
        [low.tobytes() for low, _ in map(stream.pair, range(n * len(stream), (n + 1) * len(stream)))] for n in (0, 1)
    ]
    assert sorted(rounds[0]) == sorted(rounds[1]) and rounds[0] != rounds[1]
    assert len(set(rounds[0])) == len(stream) == made[1].pairs["train"]
    assert PairStream(str(made[0]), seed=1).pair(7)[1].tobytes() == stream.pair(7)[1].tobytes()


def test_what_holds_no_pairs_is_no_source(made: tuple[Path, Summary], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no set of pairs"):
        PairStream(str(tmp_path))
    options = ["--pairs", str(made[0]), "--out", str(tmp_path), "--size", "64"]
    with pytest.raises(InputError, match="has pairs of 32 and 64 px, an enhancer with --size 64"):
        CliRunner().invoke(command, options, catch_exceptions=False)
    assert CliRunner().invoke(command, ["--out", str(tmp_path)]).exit_code == 2


def test_a_killed_run_goes_on_to_the_same_pairs(
    made: tuple[Path, Summary], faces: Path, prior: Path, tmp_path: Path, objects: Objects, cluster: str
) -> None:
    output = tmp_path / "out"
    config = settings(faces, output, prior)
    file = tmp_path / "run.json"
    file.write_text(json.dumps(config.model_dump(mode="json", exclude={"storage"})))
    start = [sys.executable, "-c", "from jobs.cli import main; main()", "pairs", "--config", str(file)]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([*start, "--address", cluster], stdout=log, stderr=log)
        try:
            while process.poll() is None and not list(output.glob("commits/*.json")):
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
    begun = len(list(output.glob("commits/*.json")))
    assert 0 < begun < 6, (tmp_path / "log").read_text()
    summary = pairs(config, progress=io.StringIO())
    assert not summary.was_complete and summary.pairs == made[1].pairs
    for kind in ("shards", "validation", "rejects"):
        assert objects(output, kind) == objects(made[0], kind)
    again = pairs(config, progress=io.StringIO())
    assert again.was_complete and again.pairs == summary.pairs


def test_what_makes_no_sense_is_said_before_anything_starts(faces: Path, tmp_path: Path) -> None:
    place = {"input": str(faces), "output": str(tmp_path / "out")}
    for assignment, said in (
        ("pairs.recipe=blur", "unknown recipe 'blur'"),
        ("pairs.taus=[55]", "multiples of 10"),
        ("pairs.identity=(", "no regular expression"),
        ("pairs.per_face=0", "greater than or equal to 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            load(None, [assignment], place)
    with pytest.raises(ConfigError, match="what 'dr2e curate' does"):
        pairs(load(None, ["keep={}"], place))
    with pytest.raises(ConfigError, match="what 'dr2e pairs' does"):
        restore(load(None, ["pairs.per_face=2"], place))
