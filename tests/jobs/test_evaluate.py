"""`dr2e evaluate`: what it measures, what it leaves out, and that its table depends on nothing but its settings.

All stages are real. Only one test has them run by Ray; elsewhere they run here, one unit after the other.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from published import state_of
from swinirs import SMALL, checkpoint

from jobs.api import evaluate
from jobs.demonstration.photographs import eileen_collins, grace_hopper
from jobs.evaluate import UNIT, EvaluationSummary, command, of_short_units
from operators.images import encode_png
from operators.quality.metrics.names import METRICS
from operators.quality.selection_fit import PAIRS, PROBE
from pipeline.blocks import to_block
from pipeline.config import ConfigError, load
from pipeline.evaluation import rounds
from pipeline.evaluation.choice.rules import BY_HAND
from pipeline.evaluation.choice.search import Search
from pipeline.evaluation.compare import compare
from pipeline.evaluation.degrade import Degrade
from pipeline.evaluation.driver import results
from pipeline.evaluation.measure import Measure
from pipeline.evaluation.results import METHODS, FaceResult
from pipeline.run import Run, RunMismatch
from pipeline.stages import Enhance, Restore
from pipeline.storage import Location
from pipeline.tar import write_shard
from pipeline.units import Unit, read_unit

QUICK = ["restore.n=1", "restore.tau=40", "unit.max_samples=2"]
SETTINGS = "severe-16,mild-4"


@pytest.fixture(scope="session")
def sharp_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard: a labelled face, one to be found, one too small for a truth at 256 px, and no picture at all."""
    hopper, collins = grace_hopper(), eileen_collins()

    def labels(points: np.ndarray) -> bytes:
        return json.dumps({"landmarks5": points.tolist()}).encode()

    mirrored = np.ascontiguousarray(hopper.pixels[:, ::-1])
    path = tmp_path_factory.mktemp("sharp") / "faces-000.tar"
    members = [
        *[("a.png", encode_png(hopper.pixels)), ("a.json", labels(hopper.faces[0]))],
        ("b.png", encode_png(mirrored)),
        *[("c.png", encode_png(collins.pixels)), ("c.json", labels(collins.faces[0]))],
        ("d.jpg", b"this is no photograph"),
    ]
    write_shard(path, members)
    return path


def run_here(run: Run, units: Sequence[Unit], measure: Measure, *_: object) -> None:
    """What `rounds.run_rounds` does, without Ray."""
    arguments = {"config": run.config, "face_size": run.models.face_size, "device": "cpu", "threads": 1}
    searches = run.config.evaluate.grid is not None
    stages = [stage(**arguments) for stage in ([Degrade, Search] if searches else [Degrade, Restore, Enhance])]
    for unit in units:
        block = to_block(unit.id, read_unit(Path(unit.shard.url), unit))
        for stage in stages:
            block = stage(block)
        assert measure.store(block).failure == ""


def arguments(shard: Path, output: Path, *settings: str) -> dict[str, object]:
    config = load(None, [*QUICK, *settings], {"input": str(shard), "output": str(output)})
    return {"config": config, "settings": SETTINGS, "progress": io.StringIO()}


@pytest.fixture(scope="session")
def evaluated(sharp_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluationSummary:
    """An undisturbed evaluation of the shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "run_rounds", run_here)
        return evaluate(**arguments(sharp_faces, tmp_path_factory.mktemp("evaluated") / "out"))


def test_every_face_is_in_the_table_or_left_out_with_its_reason(evaluated: EvaluationSummary):
    told = evaluated.document
    assert told["photos"]["measured"] == 2
    assert {photo["key"]: photo["error"] for photo in told["left_out"]} == {
        "c": "face.too_small",
        "d": "image.unreadable",
    }
    assert evaluated.unreadable == 1
    mild, severe = told["rows"]
    assert (mild["setting"], severe["setting"]) == ("mild-4", "severe-16")
    for row in (mild, severe):
        assert (row["faces"], row["kept"], row["evaluations"]) == (2, 0, 1)
        assert set(row["metrics"]) == {"psnr", "ssim", "ms_ssim", "gmsd", "niqe"}
        assert {mean["n"] for values in row["metrics"].values() for mean in values.values()} == {2}
    for metric in METRICS[:5]:
        higher, lower = (mild, severe) if metric.higher_is_better else (severe, mild)
        assert higher["metrics"][metric.name]["input"]["mean"] > lower["metrics"][metric.name]["input"]["mean"]
    for name in ("mild-4", "severe-16"):
        with Image.open(Path(evaluated.sheets) / f"{name}.png") as sheet:
            assert sheet.size[0] == 4 * 256
            assert 2 * 256 < sheet.size[1] < 3 * 256


def test_a_lost_unit_is_done_again_and_the_table_is_the_same(
    sharp_faces: Path, evaluated: EvaluationSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []

    def counted(run: Run, units: Sequence[Unit], measure: Measure, *_: object) -> None:
        done.extend(unit.id for unit in units)
        run_here(run, units, measure)

    monkeypatch.setattr(rounds, "run_rounds", counted)
    shutil.copytree(evaluated.output, tmp_path / "out")
    lost = min((tmp_path / "out" / "faces").iterdir())
    lost.unlink()
    again = evaluate(**arguments(sharp_faces, tmp_path / "out"))
    assert done == [lost.stem]
    assert (tmp_path / "out" / "table.md").read_bytes() == Path(evaluated.page).read_bytes()
    assert again.document["rows"] == evaluated.document["rows"]


def test_batch_size_changes_roundings_only(
    sharp_faces: Path, evaluated: EvaluationSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rounds, "run_rounds", run_here)
    alone = evaluate(**arguments(sharp_faces, tmp_path / "out", "resources.restore.batch=1"))
    assert_same_to_rounding(alone, evaluated)


def test_other_settings_are_refused(sharp_faces: Path, evaluated: EvaluationSummary):
    with pytest.raises(RunMismatch, match=r"seed was 0, is 1"):
        evaluate(**arguments(sharp_faces, Path(evaluated.output), "seed=1"))
    with pytest.raises(RunMismatch, match=r"evaluate\.faces was null, is 1"):
        evaluate(**arguments(sharp_faces, Path(evaluated.output)), faces=1)
    with pytest.raises(ConfigError, match=r"^--weights: .* is no folder"):
        evaluate(**arguments(sharp_faces, Path(evaluated.output)), weights="nowhere")


def test_the_command_ends_with_3_when_a_photo_was_unreadable(sharp_faces: Path, evaluated: EvaluationSummary):
    options = ["--input", str(sharp_faces), "--output", evaluated.output, "--settings", SETTINGS]
    options += [f"--set={setting}" for setting in QUICK]
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert result.exit_code == 3, result.output
    assert result.output.startswith("nothing was left to do")
    assert "| severe | 16 | 2 | 0% | 1.0 |" in result.output
    assert "Left out: 1 × face.too_small, 1 × image.unreadable." in result.output
    assert "LPIPS_v0.1_alex-df73285e.pth" in result.output
    answer = CliRunner().invoke(command, [*options, "--json"], catch_exceptions=False)
    assert json.loads(answer.stdout)["document"]["rows"] == evaluated.document["rows"]


def test_units_are_short_unless_the_configuration_has_its_own():
    base = {"input": "in", "output": "out"}
    assert of_short_units(load(None, [], base)).unit.max_samples == UNIT
    assert of_short_units(load(None, ["unit.max_samples=99"], base)).unit.max_samples == 99


@pytest.fixture(scope="session")
def given(sharp_faces: Path) -> Callable[..., dict[str, object]]:
    """Arguments of an evaluation of the choice: a grid of three taus, strides so long that a chain has two steps."""

    def build(output: Path) -> dict[str, object]:
        config = load(
            None,
            ["unit.max_samples=2", "restore.n=4", "restore.tau=160", "restore.stride=500"],
            {"input": str(sharp_faces), "output": str(output)},
        )
        return {"config": config, "settings": SETTINGS, "grid": 200, "progress": io.StringIO()}

    return build


@pytest.fixture(scope="session")
def compared(given: Callable[..., dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> EvaluationSummary:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "run_rounds", run_here)
        return evaluate(**given(tmp_path_factory.mktemp("compared") / "out"))


def faces_of(summary: EvaluationSummary) -> list[FaceResult]:
    location = Location(summary.output)
    photos = results(location, [entry.name for entry in location.entries("faces")])
    return [face for photo in photos for face in photo.faces]


def test_a_measured_choice_has_one_setting_per_photo_and_the_whole_grid(compared: EvaluationSummary):
    faces = faces_of(compared)
    assert len(faces) == 2 and {face.setting for face in faces} <= {"severe-16", "mild-4"}
    grid = {(n, tau) for n in (1, 2, 4, 8, 16) for tau in (0, 200, 400)}
    fitted_to = {(n, 10 * tau) for n, tau in (*PAIRS, *((1, tau) for tau in PROBE))}
    for face in faces:
        assert [cell.pair for cell in face.grid] == sorted({*grid, *fitted_to, *BY_HAND.values()})


def test_the_grid_holds_what_a_run_would_give(compared: EvaluationSummary):
    for face in faces_of(compared):
        (cell,) = [cell for cell in face.grid if cell.pair == (face.n, face.tau) == (4, 160)]
        _, dr2, enhanced = face.versions
        for found, version in ((cell.dr2, dr2), (cell.enhanced, enhanced)):
            assert dict(found) == pytest.approx({name: version.values[name] for name in found}, rel=1e-12)


def test_the_page_of_a_measured_choice_compares_rules(compared: EvaluationSummary):
    assert compared.markdown.startswith("# The choice of (N, tau)")
    lines = compared.document["choice"]["enhanced"]["lines"]
    rules = {"as it came", "automatic", "lowest NIQE", "by hand", "best fixed pair", "oracle"}
    assert {line["rule"] for line in lines} == rules
    (automatic,) = [x for x in lines if (x["split"], x["rule"]) == ("all degraded", "automatic")]
    (oracle,) = [x for x in lines if (x["split"], x["rule"]) == ("all degraded", "oracle")]
    assert oracle["means"]["ssim"]["mean"] >= automatic["means"]["ssim"]["mean"]
    assert (automatic["evaluations"], oracle["evaluations"]) == (2, 15)
    with Image.open(Path(compared.output) / "curves.png") as picture:
        assert picture.size[0] > 1000


def test_select_alone_compares_and_with_a_value_selects(compared: EvaluationSummary, sharp_faces: Path):
    options = ["--input", str(sharp_faces), "--output", compared.output, "--settings", SETTINGS]
    options += ["--n=4", "--tau=160", "--set=unit.max_samples=2", "--set=restore.stride=500"]
    alone = CliRunner().invoke(command, [*options, "--grid-step=200", "--select"], catch_exceptions=False)
    assert alone.exit_code == 3 and "nothing was left to do" in alone.output, alone.output
    with pytest.raises(RunMismatch, match=r"evaluate\.grid was 200, is null"):
        CliRunner().invoke(command, [*options, "--select", "fixed"], catch_exceptions=False)
    for wrong in (["--grid-step=200", "--select=fixed"], ["--grid-step=25", "--select"], ["--grid-step=5", "--select"]):
        refused = CliRunner().invoke(command, [*options, *wrong])
        assert refused.exit_code == 2 and "--grid-step" in refused.output


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_measured_choice_is_the_same_on_ray(
    given: Callable[..., dict[str, object]], compared: EvaluationSummary, tmp_path: Path, cluster: str
):
    there = evaluate(**given(tmp_path / "out"))
    for ours, theirs in zip(faces_of(there), faces_of(compared), strict=True):
        assert [cell.pair for cell in ours.grid] == [cell.pair for cell in theirs.grid]
        assert [cell.dr2["ssim"] for cell in ours.grid] == pytest.approx([c.dr2["ssim"] for c in theirs.grid], rel=1e-2)


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_on_ray_it_is_the_same(sharp_faces: Path, evaluated: EvaluationSummary, tmp_path: Path, cluster: str):
    there = evaluate(**arguments(sharp_faces, tmp_path / "out"))
    assert there.document["left_out"] == evaluated.document["left_out"]
    assert_same_to_rounding(there, evaluated)


def assert_same_to_rounding(ours: EvaluationSummary, theirs: EvaluationSummary) -> None:
    for one, other in zip(ours.document["rows"], theirs.document["rows"], strict=True):
        for metric, values in one["metrics"].items():
            assert values["input"] == other["metrics"][metric]["input"]
            for method in METHODS:
                assert values[method]["mean"] == pytest.approx(other["metrics"][metric][method]["mean"], rel=2e-3)


def test_another_remover_is_measured_as_dr2_is(
    sharp_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("spandrel")
    path = published.save(tmp_path / "face_swinir_v1.ckpt", checkpoint(SMALL), "state_dict")
    monkeypatch.setattr(rounds, "run_rounds", run_here)
    config = load(None, ["unit.max_samples=2", f"restore.remover={path}"],
                  {"input": str(sharp_faces), "output": str(tmp_path / "out")})  # fmt: skip
    evaluated = evaluate(config, settings=SETTINGS, progress=io.StringIO())
    for row in evaluated.document["rows"]:
        assert (row["faces"], row["kept"], row["evaluations"], row["choices"]) == (2, 0, 1, {})
        assert row["metrics"]["psnr"]["dr2"]["mean"] is not None
    assert "bicubically → SwinIR → SwinIR + enhancer" in evaluated.markdown
    assert "Made with remover face_swinir_v1.ckpt" in evaluated.markdown
    assert (Path(evaluated.sheets) / "mild-4.png").is_file()


def test_metrics_by_name_are_in_the_table_from_files_alone(
    sharp_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """MUSIQ in its published layout, and PIQE, which needs no file."""
    from pyiqa.archs.musiq_arch import MUSIQ

    weights = tmp_path / "weights"
    weights.mkdir()
    torch.save(state_of(MUSIQ(pretrained=False)), weights / "musiq_koniq_ckpt-e95806b9.pth")
    monkeypatch.setattr(rounds, "run_rounds", run_here)
    plan = arguments(sharp_faces, tmp_path / "out") | {"settings": "mild-4", "weights": weights}
    summary = evaluate(**plan, metrics="musiq, piqe")
    (row,) = summary.document["rows"]
    assert {"psnr", "niqe", "musiq", "piqe"} <= set(row["metrics"])
    assert row["metrics"]["musiq"]["input"]["n"] == 2
    assert "musiq ↑" in summary.markdown and "piqe ↓" in summary.markdown
    recorded = summary.document["evaluation"]["config"]["evaluate"]
    assert recorded["metrics"] == ["musiq", "piqe"] and set(recorded["weights"]) == {"musiq"}
    assert evaluate(**plan, metrics="musiq,piqe").was_complete
    with pytest.raises(RunMismatch, match=r"evaluate\.metrics was"):
        evaluate(**plan)

    with pytest.raises(ConfigError, match=r"--metrics: .*'musiq' needs musiq_koniq_ckpt-e95806b9.pth"):
        evaluate(**arguments(sharp_faces, tmp_path / "other"), metrics="musiq")
    with pytest.raises(ConfigError, match=r"--metrics: lpips needs LPIPS_v0.1_alex-df73285e.pth, alexnet.*--weights"):
        evaluate(**plan, metrics="lpips")
    with pytest.raises(ConfigError, match=r"--metrics: 'musik' is no metric of single faces in pyiqa"):
        evaluate(**plan, metrics="musik")

    (difference,) = [one for one in compare(Location(str(tmp_path / "out")), Location(str(tmp_path / "out")))
                     if one.metric.name == "musiq"]  # fmt: skip
    assert difference.change.mean == 0 and difference.metric.higher_is_better
