"""`dr2e pairs` without near-duplicates: one of two is left out, the same whoever sees which first, and it stays so."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import gaussian_filter

from jobs.gc import command as gc
from jobs.pairs import Summary, pairs
from jobs.retry import retry
from operators.detect.align import template
from pipeline.config import Config, ConfigError, load
from pipeline.driver import prepare
from pipeline.garbage import find_garbage
from pipeline.isolate import isolate
from pipeline.output import Output
from pipeline.pairs.search import Search
from pipeline.resources import Node, PoolSize, sizes
from pipeline.run import Run, RunMismatch
from pipeline.tar import write_shard
from pipeline.work import Shards

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; Ray starts slowly on a busy one

SIDE, COPY, LARGE = 96, 98, 300  # pixels of photos; a copy is 2 % larger
LIMITS, LARGER = (f"limits.max_pixels={side**2}" for side in (COPY, LARGE))  # the large copy is over the first


def textures(count: int) -> list[np.ndarray]:
    """Soft images that are not alike; the landmarks of their samples make faces of them."""
    soft = gaussian_filter(np.random.default_rng(0).standard_normal((count, SIDE, SIDE, 3)), (0, 6, 6, 0))
    return list(np.clip(128 + 40 * soft / soft.std(), 0, 255).astype(np.uint8))


def sample(key: str, pixels: np.ndarray, side: int = SIDE, quality: int = 95) -> list[tuple[str, bytes]]:
    out = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS).save(out, format="JPEG", quality=quality)
    told = {"landmarks5": template(side).tolist()}
    return [(f"{key}.jpg", out.getvalue()), (f"{key}.json", json.dumps(told).encode())]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two shards of five: b2 is a3 resized, encoded again and mirrored, b4 is a1 enlarged, and b0 is no photograph."""
    folder = tmp_path_factory.mktemp("shards")
    faces = textures(8)
    a = [sample(f"a{number}", face) for number, face in enumerate(faces[:5])]
    b = [
        [("b0.jpg", b"no photograph")],
        sample("b1", faces[5]),
        sample("b2", faces[3][:, ::-1], COPY, quality=40),
        sample("b3", faces[6]),
        sample("b4", faces[1], LARGE),
    ]
    for name, samples in (("a.tar", a), ("b.tar", b)):
        write_shard(folder / name, [member for members in samples for member in members])
    return str(folder / "a.tar"), str(folder / "b.tar")


def settings(shards: Sequence[str], output: Path, *more: str) -> Config:
    chosen = ["pairs.recipe=classical", "pairs.per_face=1", "pairs.size=64", "pairs.gate.duplicates=5", LIMITS, *more]
    return load(None, chosen, {"input": list(shards), "output": str(output)})


def make(shards: Sequence[str], output: Path, *more: str) -> Summary:
    return pairs(settings(shards, output, *more), progress=io.StringIO())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shards: tuple[str, str], cluster: str) -> tuple[Path, Summary]:
    output = tmp_path_factory.mktemp("pairs") / "out"
    return output, make(shards, output, "unit.max_samples=2")


def left_out(output: Path) -> dict[str, tuple[str, str]]:
    """Code and message of what is left out, by key."""
    found = Output(output)
    tables = [table for history in found.histories() for _, table in found.rows(history, ["key", "error", "message"])]
    rows = [row for table in tables for row in table.to_pylist()]
    return {row["key"]: (row["error"], row["message"]) for row in rows if row["error"]}


def test_one_of_two_is_left_out_across_shards_with_its_reason(made: tuple[Path, Summary]) -> None:
    output, summary = made
    assert summary.left_out == {"gate.duplicate": 1, "image.unreadable": 1, "image.too_large": 1}
    assert summary.targets == 7 and summary.faulty == 2
    code, message = left_out(output)["b2"]
    assert code == "gate.duplicate" and message.startswith("a near-duplicate of a3 in a.tar: ")
    assert "| gate.duplicate | 1 |" in (output / "README.md").read_text()
    assert len(list(output.glob("targets/*.parquet"))) == len(list(output.glob("duplicates/*.parquet"))) == 6


@pytest.mark.slow
def test_neither_units_nor_the_order_of_the_input_change_what_is_left_out(
    made: tuple[Path, Summary], shards: tuple[str, str], tmp_path: Path, cluster: str
) -> None:
    make(shards[::-1], tmp_path / "out", "unit.max_samples=4")
    assert left_out(tmp_path / "out") == left_out(made[0])


@pytest.mark.slow
def test_a_run_resumes_from_any_part_of_the_search(
    made: tuple[Path, Summary], shards: tuple[str, str], tmp_path: Path, cluster: str
) -> None:
    output = tmp_path / "out"
    shutil.copytree(made[0], output)
    assert make(shards, output, "unit.max_samples=2").was_complete
    for folder in ("commits", "duplicates", "targets"):
        for name in output.glob(f"{folder}/*-0001-of-*"):  # of each shard the unit that holds a3, or b2
            name.unlink()
    for name in output.glob("duplicates/*-0002-of-*"):
        name.unlink()
    assert not make(shards, output, "unit.max_samples=2").was_complete
    assert left_out(output) == left_out(made[0]) and Output(output).verify() == []
    assert len(list(output.glob("duplicates/*.parquet"))) == 6


@pytest.mark.slow
def test_what_is_committed_wins_against_what_comes_later(shards: tuple[str, str], tmp_path: Path, cluster: str) -> None:
    output = tmp_path / "out"
    assert make(shards[1:], output).left_out == {"image.unreadable": 1, "image.too_large": 1}
    summary = make(shards, output)
    assert summary.left_out["gate.duplicate"] == 1 and summary.targets == 7
    assert left_out(output)["a3"][1].startswith("a near-duplicate of b2 in b.tar: ")


def test_another_limit_needs_another_output(made: tuple[Path, Summary], shards: tuple[str, str]) -> None:
    with pytest.raises(RunMismatch, match=r"pairs.gate.duplicates was 5, is 4"):
        make(shards, made[0], "unit.max_samples=2", "pairs.gate.duplicates=4")


@pytest.mark.slow
def test_a_photo_that_kills_its_worker_in_the_search_is_not_tried_again(
    made: tuple[Path, Summary], shards: tuple[str, str], tmp_path: Path, cluster: str
) -> None:
    class Fragile:
        """All stages of the search, in a process that dies of "a3"."""

        def __init__(self, run: Run, device: str, size: PoolSize) -> None:
            from pipeline.isolate import AllStages

            self.stages = AllStages(run, device, size)

        def restore(self, block: pa.Table) -> pa.Table:
            import os

            from pipeline.blocks import from_block

            if from_block(block)[0].key == "a3":
                os._exit(1)
            return self.stages.restore(block)

    prepared = prepare(settings(shards, tmp_path / "out", "unit.max_samples=4"))
    search = Search(prepared.run, Shards(prepared.run, prepared.shards))
    widths = sizes(prepared.run.config.resources, [Node(2, 0)])
    outcomes = list(isolate(search.run, search.work.left().reads, widths, Fragile))
    assert not any(outcome.failure for outcome in outcomes) and search.work.left().complete
    assert sum(outcome.faces for outcome in outcomes) == 7
    make(shards, tmp_path / "out", "unit.max_samples=4")
    found = left_out(tmp_path / "out")
    assert found.pop("a3")[0] == "worker.died"
    assert found == {
        key: why for key, why in left_out(made[0]).items() if key != "b2"
    }  # b2 is the first of the two now


@pytest.mark.slow
def test_a_photo_that_is_tried_again_is_compared_as_well(
    made: tuple[Path, Summary], tmp_path: Path, cluster: str
) -> None:
    output = tmp_path / "out"
    shutil.copytree(made[0], output)
    summary = retry(str(output), ["image.too_large", "gate"], [LARGER], progress=io.StringIO())
    assert summary.tried == {"image.too_large": 1, "gate.duplicate": 1} and summary.rejected == 2
    after = left_out(output)
    assert after["b4"][0] == "gate.duplicate" and after["b4"][1].startswith("a near-duplicate of a1 in a.tar: ")
    assert after["b2"] == left_out(made[0])["b2"] and Output(output).verify() == []


def test_commands_about_outputs_know_what_a_search_stores(made: tuple[Path, Summary]) -> None:
    output, _ = made
    unfinished = output / "targets" / ".0123456789abcdef.tmp"
    unfinished.write_bytes(b"half")
    before = sorted(path for folder in ("targets", "duplicates") for path in output.glob(f"{folder}/*"))
    found = find_garbage(Output(output).location, timedelta(0))
    assert [garbage.name for garbage in found.garbage] == [f"targets/{unfinished.name}"] and not found.foreign
    result = CliRunner().invoke(gc, [str(output), "--older-than", "0", "--delete"])
    assert result.exit_code == 0 and not unfinished.exists()
    after = sorted(path for folder in ("targets", "duplicates") for path in output.glob(f"{folder}/*"))
    assert after == [path for path in before if path != unfinished]
    assert Output(output).verify() == []


def test_a_limit_out_of_range_is_refused_before_anything_starts(shards: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pairs.gate.duplicates: input should be less than or equal to 16"):
        settings(shards, tmp_path, "pairs.gate.duplicates=17")
