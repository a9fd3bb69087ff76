"""`dr2e fit-selection`: from the stored grids of an evaluation to a policy file, on training keys alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from jobs.fit_selection import command, description, stored
from operators.quality.selection import Candidate, Policy
from operators.quality.selection_fit import PAIRS, PROBE
from operators.training.split import held_out
from pipeline.config import build
from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.choice.examples import DECIBEL, examples, of_cell, quality
from pipeline.evaluation.results import METHODS, FaceResult, PhotoResult, Version, to_parquet
from pipeline.evaluation.settings import CLEAN, SETTINGS, EvaluationConfig, evaluate_section
from pipeline.ledger import LedgerError
from pipeline.models import describe
from pipeline.storage import Location

FACES = 60
MADE = {
    "config": {"restore": {"stride": 40}},
    "models": {role: {"name": f"my {role}", "sha256": role * 8} for role in ("prior", "niqe", "enhancer")},
}


def photo(key: str, severity: float, pairs: tuple[tuple[int, int], ...] = PAIRS) -> PhotoResult:
    """A face of known severity, 0 to 1: the more severe, the later among PAIRS is its best; the least are clean."""
    best = severity * (len(PAIRS) - 1)

    def values(pair: tuple[int, int]) -> dict[str, float]:
        place = PAIRS.index(pair) if pair in PAIRS else 0
        return {"psnr": 25.0, "ssim": 0.8 - 0.01 * abs(place - best)}

    probe = [(1, tau) for tau in PROBE if (1, tau) not in pairs] if pairs else []
    grid = tuple(
        Cell(n, tau * 10, 3 + 3 * severity if n == 1 else 4.0, 0.95, values((n, tau)), values((n, tau)))
        for n, tau in (*probe, *pairs)
    )
    clean = severity < 0.15
    untouched = {"psnr": 80.0, "ssim": 1.0} if clean else {"psnr": 20.0, "ssim": 0.5}
    versions = tuple(Version(method, untouched) for method in METHODS)
    setting = "clean-1" if clean else "severe-8"
    face = FaceResult(setting, "restored", "", 4, 40, 9, versions, niqe_in=3 + 3 * severity, grid=grid)
    return PhotoResult("shard", key, "measured", faces=(face,))


def write(folder: Path, photos: list[PhotoResult]) -> str:
    (folder / "faces").mkdir(parents=True)
    (folder / "evaluation-settings.json").write_text(json.dumps(MADE))
    for number, start in enumerate(range(0, len(photos), 8)):
        (folder / "faces" / f"u{number}.parquet").write_bytes(to_parquet(photos[start : start + 8]))
    return str(folder)


@pytest.fixture
def evaluation(tmp_path: Path) -> str:
    photos = [photo(f"k{i}", i / FACES) for i in range(FACES)]
    photos.append(PhotoResult("shard", "broken", "left_out", "image.unreadable", "no picture"))
    return write(tmp_path / "grids", photos)


def test_the_command_writes_a_policy_that_a_run_loads(evaluation: str, tmp_path: Path) -> None:
    out, card = tmp_path / "policy.safetensors", tmp_path / "policy.md"
    result = CliRunner().invoke(command, [evaluation, "--out", str(out), "--card", str(card)], catch_exceptions=False)
    assert result.exit_code == 0
    policy = Policy.load(out)
    assert 3.4 < policy.natural < 3.6

    def chosen(niqe: float) -> int:
        gains = policy.gains(niqe, [Candidate(1, tau, niqe, 1.0) for tau in PROBE])
        return PAIRS.index(max(gains, key=gains.__getitem__))

    assert chosen(3.8) < len(PAIRS) / 2 < chosen(5.6)
    assert card.read_text() == result.output
    assert "prior my prior priorpri" in result.output and "| the policy, cross-validated |" in result.output


def test_held_out_faces_take_no_part(tmp_path: Path) -> None:
    keys = [f"k{i}" for i in range(FACES)]
    kept_back = [key for key in keys if held_out(key)]
    assert kept_back
    runs = []
    for name, flip in (("a", False), ("b", True)):
        photos = [photo(key, (1 - i / FACES) if flip and held_out(key) else i / FACES) for i, key in enumerate(keys)]
        out = tmp_path / f"{name}.safetensors"
        CliRunner().invoke(command, [write(tmp_path / name, photos), "--out", str(out)], catch_exceptions=False)
        runs.append(Policy.load(out))
    assert np.array_equal(runs[0].weights, runs[1].weights)


def test_an_evaluation_that_cannot_be_fitted_to_is_refused_with_the_reason(tmp_path: Path) -> None:
    def refused(photos: list[PhotoResult]) -> str:
        with pytest.raises(LedgerError) as caught:
            examples(photos, "here")
        return str(caught.value)

    assert refused([photo("k1", 0.5, ((1, 2), (4, 20)))]).startswith("here lacks the pairs (1, 10), (2, 0)")
    assert "no grid of (N, tau); make one with 'dr2e evaluate --select'" in refused([photo("k1", 0.5, ())])
    assert "no face of a training key" in refused([])
    with pytest.raises(LedgerError, match="holds no evaluation"):
        stored(Location(str(tmp_path / "nowhere")))
    with pytest.raises(LedgerError, match="is damaged"):
        description({"models": {}}, 3, "here")


def test_a_policy_is_measured_on_the_stored_faces_of_another_evaluation(evaluation: str, tmp_path: Path) -> None:
    record = json.loads((Path(evaluation) / "evaluation-settings.json").read_text())
    section = evaluate_section(grid=100, settings=tuple(setting.name for setting in (CLEAN, *SETTINGS)))
    config = EvaluationConfig.of(build({"input": "in", "output": "out"}), section)
    record["config"] = config.result()
    record["models"] = describe(config).to_json()
    (Path(evaluation) / "evaluation-settings.json").write_text(json.dumps(record))
    options = [evaluation, "--out", str(tmp_path / "p"), "--measure", evaluation]
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    lines = [line.split(" | ") for line in result.output.splitlines() if line.startswith("| all degraded | 51 |")]
    ssim = {line[2]: float(line[4]) for line in lines[:6]}
    assert ssim["automatic"] > ssim["best fixed pair (looks at the truth)"] + 0.02
    assert ssim["oracle (looks at the truth)"] >= ssim["automatic"]


def test_one_face_is_too_few(tmp_path: Path) -> None:
    url = write(tmp_path / "one", [photo("k1", 0.5)])
    with pytest.raises(LedgerError, match="at least two groups"):
        CliRunner().invoke(command, [url, "--out", str(tmp_path / "p")], catch_exceptions=False)


def test_the_enhanced_face_counts_twice_and_structure_most() -> None:
    assert quality({"psnr": 30.0, "ssim": 0.7}) == pytest.approx(0.7 + 30 * DECIBEL)
    cell = Cell(4, 40, 3.0, 0.9, {"psnr": 20.0, "ssim": 0.4}, {"psnr": 20.0, "ssim": 0.7})
    assert of_cell(cell) == pytest.approx(0.6 + 20 * DECIBEL)
