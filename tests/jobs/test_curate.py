"""`dr2e curate`: one round over a small collection, from photographs to figures, and again."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from jobs.curate import KEPT, PAIRS, command
from jobs.curation.begin import TRAINING
from jobs.curation.page import AFTER, BEFORE
from jobs.demonstration.photographs import eileen_collins, grace_hopper
from jobs.restore import restore
from jobs.unpack import command as unpack
from operators.images import decode, encode_png
from operators.training.split import held_out
from operators.training.weights import WeightsError, load_weights, sha256_file
from operators.weights import builtin
from pipeline.config import ConfigError, load
from pipeline.inputs import InputError
from pipeline.models import ModelError
from pipeline.output import Output
from pipeline.run import RunMismatch
from pipeline.tar import write_shard

STEPS = 2


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of labelled sharp faces: one to train on, one held out."""
    keys = (f"person{number}" for number in range(1000))
    trained = next(key for key in keys if not held_out(key))
    tested = next(key for key in keys if held_out(key))
    path = tmp_path_factory.mktemp("good") / "faces.tar"
    members = []
    for key, photograph in ((trained, eileen_collins()), (tested, grace_hopper())):
        told = json.dumps({"landmarks5": np.asarray(photograph.faces[0]).tolist()})
        members += [(f"{key}.png", encode_png(photograph.pixels)), (f"{key}.json", told.encode())]
    write_shard(path, members)
    return path


def held_out_face() -> str:
    """A held-out key as kept faces have them."""
    return next(key for key in (f"p{number}-face00" for number in range(1000)) if held_out(key))


def run(collection: Path, good: Path, output: Path | str, *options: str) -> str:
    arguments = ["--input", str(collection), "--faces", str(good), "--output", str(output), "--steps", str(STEPS)]
    arguments += ["--batch", "1", "--settings", "mild-4", "--pairs-per-face", "2", "--n", "1", "--tau", "20"]
    arguments += ["--set", "keep.gain=-9", "--set", "keep.fidelity=0.5", "--set", "keep.moved=0.5", *options]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def finished_round(
    tmp_path_factory: pytest.TempPathFactory, collection: Path, good: Path, cluster: str
) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("round") / "out"
    return output, run(collection, good, output)


@pytest.mark.slow
def test_good_restored_faces_are_what_is_learned_from(finished_round: tuple[Path, str]) -> None:
    output, _ = finished_round
    status = Output(output / KEPT).status()
    kept = status.counts["faces"]
    assert kept and status.counts["photos"] == 6 and status.errors["image.unreadable"] == 1
    assert Output(output / KEPT).verify() == [] and Output(output / PAIRS).verify() == []
    info = json.loads((output / PAIRS / "dataset_info.json").read_text())
    assert info["photos"] == kept + 2, "the kept faces and the good ones"
    sides, names = set(), []
    for path in (output / KEPT / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                file = tar.extractfile(member)
                names.append(member.name)
                if member.name.endswith(".png") and file is not None:
                    sides.add(decode(file.read()).pixels.shape)
    assert len(names) == 2 * kept and all("-face" in name for name in names)
    assert sides == {(256, 256, 3)}


@pytest.mark.slow
def test_the_enhancer_learns_from_where_it_was(finished_round: tuple[Path, str]) -> None:
    output, said = finished_round
    path = output / TRAINING / "enhancer.safetensors"
    (before, _), (after, told) = load_weights(builtin("enhancer")), load_weights(path)
    changes = [float((after[name].float() - value.float()).abs().max()) for name, value in before.items()]
    assert 0 < max(changes) < 0.05, "two steps from the built-in weights, not from drawn ones"
    assert told["training"]["begin"] == sha256_file(builtin("enhancer")) and told["training"]["steps"] == STEPS
    assert "3 of 4: training on" in said


@pytest.mark.slow
def test_a_round_is_judged_face_by_face(finished_round: tuple[Path, str]) -> None:
    output, said = finished_round
    told = json.loads((output / "round.json").read_text())
    assert told["faces_kept"] == Output(output / KEPT).status().counts["faces"]
    assert {one["setting"] for one in told["differences"]} == {"mild-4"}
    for folder, place in ((BEFORE, "first"), (AFTER, "second")):
        (row,) = json.loads((output / folder / "table.json").read_text())["rows"]
        measured = {one["metric"]: one[place]["mean"] for one in told["differences"]}
        assert measured == {name: metric["dr2+enhancer"]["mean"] for name, metric in row["metrics"].items()}
    page = (output / "round.md").read_text()
    assert told["verdict"] in page and "| image.unreadable | 1 |" in page and page in said


@pytest.mark.slow
def test_the_same_command_does_nothing_again(finished_round: tuple[Path, str], collection: Path, good: Path) -> None:
    output, _ = finished_round

    def written() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in output.rglob("*.tar")}

    before, page = written(), (output / "round.md").read_bytes()
    run(collection, good, output)
    assert written() == before and (output / "round.md").read_bytes() == page


def test_what_cannot_be_done_is_said_at_once(
    finished_round: tuple[Path, str], collection: Path, good: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no local folder; name one for the training"):
        run(collection, good, "s3://bucket/round")
    with pytest.raises(ConfigError, match="--settings: severe-3 is none of"):
        run(collection, good, tmp_path, "--settings", "severe-3")
    with pytest.raises(ConfigError, match=r"--recipe, --pairs-per-face: .*unknown recipe 'dr3'"):
        run(collection, good, tmp_path, "--recipe", "dr3")
    with pytest.raises((WeightsError, ModelError), match=r"no\.safetensors"):
        run(collection, good, tmp_path, "--enhancer", str(tmp_path / "no.safetensors"))
    with pytest.raises(InputError):
        run(collection, tmp_path / "nothing.tar", tmp_path)
    assert not list(tmp_path.iterdir()), "before anything was begun"
    enhancer = finished_round[0] / TRAINING / "enhancer.safetensors"
    with pytest.raises(ConfigError, match="holds --enhancer itself"):
        run(collection, good, tmp_path, "--enhancer", str(enhancer), "--training", str(enhancer.parent))
    with pytest.raises(ConfigError, match="holds another training"):
        run(collection, good, tmp_path, "--training", str(enhancer.parent))
    with pytest.raises(RunMismatch, match=r"as another round \(lr was 0.0002, is 0.1; pairs.recipe was .*\)"):
        run(collection, good, finished_round[0], "--lr", "0.1", "--recipe", "classical")
    write_shard(tmp_path / "named.tar", [(f"{held_out_face()}.png", encode_png(grace_hopper().pixels))])
    with pytest.raises(ConfigError, match="is named as a kept face is"):
        run(collection, tmp_path / "named.tar", tmp_path)
    with pytest.raises(ConfigError, match="what 'dr2e curate' does"):
        restore(load(None, ["keep={}"], {"input": str(collection), "output": str(tmp_path)}), progress=io.StringIO())
    with pytest.raises(ConfigError, match="holds faces to train on"):
        CliRunner().invoke(unpack, [str(finished_round[0] / KEPT), str(tmp_path)], catch_exceptions=False)
    # Every face is asked to gain more than any can.
    with pytest.raises(ConfigError, match=r"no face .* is good enough to learn from \(.*keep.no_gain"):
        run(collection, good, tmp_path / "strict", "--set", "keep.gain=99")
