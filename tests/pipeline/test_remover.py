"""A run whose degradation another network removes: its settings, models and stage, and what becomes of a face."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import published
import pyarrow.parquet as pq
import pytest
from swinirs import SMALL, checkpoint

from operators.detect.align import template
from operators.images import encode_png
from operators.training.weights import sha256_file
from pipeline.commit import commit_unit
from pipeline.config import Config, ConfigError, build
from pipeline.evaluation.driver import prepare
from pipeline.evaluation.settings import evaluate_section
from pipeline.inputs import ShardRef
from pipeline.metrics.names import EVALUATIONS
from pipeline.models import ROLES, ModelError, describe
from pipeline.output import Output
from pipeline.records import Face, Photo
from pipeline.report import write_report
from pipeline.run import Run, RunMismatch
from pipeline.stages import Enhance, Restore

pytest.importorskip("spandrel")

SHARDS = [ShardRef("/data/a.tar", "a.tar", 10, "x")]


@pytest.fixture(scope="module")
def swinir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.save(tmp_path_factory.mktemp("swinir") / "face_swinir_v1.ckpt", checkpoint(SMALL), "state_dict")


def config(remover: Path | str, output: Path | str = "out", **settings: object) -> Config:
    return build({"input": "in", "output": str(output), "restore": {"remover": str(remover)}, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"restore": {"remover": "x.ckpt", "n": 4, "tau": 40}}, "restore: n and tau are of DR2; leave them out"),
        ({"restore": {"remover": "x.ckpt"}, "pairs": {}}, "restore.remover: pairs are made with DR2"),
    ],
)
def test_what_belongs_to_dr2_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"input": "in", "output": "out", **settings})


def test_a_grid_is_measured_with_dr2(swinir: Path) -> None:
    with pytest.raises(ConfigError, match=r"restore\.remover: the choice of \(N, tau\) is measured with DR2"):
        prepare(config(swinir), evaluate_section(grid=40))


def test_its_file_stands_for_prior_and_policy(swinir: Path) -> None:
    found = describe(config(swinir))
    assert found.face_size == 128
    assert found.remover is not None
    assert (found.remover.name, found.remover.sha256) == ("face_swinir_v1.ckpt", sha256_file(swinir))
    assert [found.to_json()[role]["name"] for role in ("prior", "policy")] == ["none", "none"]
    assert set(found.to_json()) == {"remover", *ROLES}
    assert set(describe(config("dr2")).to_json()) == set(ROLES)


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.ckpt", "remover: weights not found"), ("page.ckpt", "is a web page"), ("other.ckpt", "is no SwinIR")],
)
def test_a_file_that_is_no_remover_ends_before_anything_starts(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "page.ckpt").write_bytes(b"<html>")
    published.save(tmp_path / "other.ckpt", published.seeded({"x.weight": [2, 2]}))
    with pytest.raises(ModelError, match=message) as caught:
        describe(config(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_urls_are_not_shown(swinir: Path) -> None:
    with pytest.raises(ModelError, match="remover: models are not read from URLs") as caught:
        describe(config("https://example.org/x.ckpt?token=secret"))
    assert "secret" not in str(caught.value)


def test_another_remover_is_another_run_and_older_runs_continue(swinir: Path) -> None:
    ours, other = (Run(chosen, describe(chosen)) for chosen in (config("dr2"), config(swinir)))
    before = ours.record(SHARDS)
    del before["config"]["restore"]["remover"]  # as runs were recorded that knew of DR2 alone
    ours.check(before)
    other.check(other.record(SHARDS))
    for run, record in ((other, before), (ours, other.record(SHARDS))):
        with pytest.raises(RunMismatch, match="the prior is another model"):
            run.check(record)


def photo(faces: int) -> Photo:
    """With crops as the detector hands them on."""
    rng, image = np.random.default_rng(faces), encode_png(np.zeros((128, 128, 3), np.uint8))
    found = Photo("u-00000000-0000-of-0001", 0, "k", "k.png", image, width=128, height=128, shard="u.tar",
                  started="2026-11-20T10:00:00+00:00")  # fmt: skip
    for _ in range(faces):
        crop = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
        points = template(128).astype(np.float32)
        found.faces.append(Face((8.0, 8.0, 120.0, 120.0), 0.9, points, matrix=matrix, crop=crop))
    return found


def test_faces_are_restored_committed_and_reported(swinir: Path, tmp_path: Path) -> None:
    chosen = config(swinir, tmp_path / "out")
    run, restored = Run(chosen, describe(chosen)), photo(2)
    assert Restore.units(chosen) == 1
    stage = Restore(chosen, run.models.face_size, "cpu", 1)
    stage.work([restored])
    for face in restored.faces:
        assert (face.status, face.n, face.tau, face.reason, face.evaluations) == ("restored", None, None, "SwinIR", 1)
        assert face.niqe_in is not None and face.niqe_dr2 is not None
        assert face.dr2 is not None and face.crop is not None and not np.array_equal(face.dr2, face.crop)
    assert stage.totals() == {EVALUATIONS: 2}
    Enhance(chosen, run.models.face_size, "cpu", 1).work([restored])

    output = Output(tmp_path / "out")
    output.start(run.record(SHARDS))
    commit_unit(output.location, [restored], run.commit_context())
    (manifest,) = (tmp_path / "out" / "manifest").iterdir()
    (row,) = pq.read_table(manifest).to_pylist()
    assert [(face["status"], face["n"], face["tau"]) for face in row["faces"]] == [("restored", None, None)] * 2
    write_report(output)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "in the middle after SwinIR" in page
    assert "2 network evaluations, 1.0 per face restored by SwinIR" in " ".join(page.split())
    assert "None" not in page.partition('id="faces"')[2].partition("</section>")[0]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["models"]["remover"]["name"] == swinir.name


def test_grey_stays_grey(swinir: Path) -> None:
    grey = photo(1)
    grey.grey = True
    grey.faces[0].crop = np.repeat(grey.faces[0].crop[..., :1], 3, axis=-1)  # type: ignore[index]
    Restore(config(swinir), 128, "cpu", 1).work([grey])
    image = grey.faces[0].image
    assert image is not None and (image == image[..., :1]).all()
