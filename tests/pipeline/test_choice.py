"""Rules of choosing (N, tau), compared on faces whose whole grid is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from operators.quality.metrics.names import METRICS
from operators.quality.selection import Chain
from operators.quality.selection_fit import PAIRS as FITTED
from operators.quality.selection_fit import PROBE
from pipeline.config import build
from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.choice.chains import measured_chains, own_chains
from pipeline.evaluation.choice.curves import curves
from pipeline.evaluation.choice.page import choice_document, choice_page
from pipeline.evaluation.choice.rules import (
    ARGMIN,
    BY_HAND,
    CHOICE,
    FIXED,
    HAND,
    INPUT,
    ORACLE,
    Output,
    best_fixed,
    taken,
)
from pipeline.evaluation.choice.summary import compare
from pipeline.evaluation.faces import degraded
from pipeline.evaluation.results import METHODS, FaceResult, Version
from pipeline.evaluation.settings import CLEAN, SETTINGS, EvaluationConfig, evaluate_section

METRIC = [metric for metric in METRICS if metric.name in ("psnr", "ssim", "gmsd")]
PAIRS = [(n, tau) for n in (4, 8, 16) for tau in (0, 220, 350)]
SEARCHED = 66


def values(ssim: float) -> dict[str, float]:
    return {"psnr": 20 + 10 * ssim, "ssim": ssim, "gmsd": 0.3 - ssim / 10}


def face(setting: str, best: tuple[int, int], *, ours: float = 0.75, status: str = "restored") -> FaceResult:
    """SSIM is .8 enhanced and .7 before at the best pair, .1 less elsewhere; NIQE is lowest at (16, 350)."""
    grid = tuple(
        Cell(
            n,
            tau,
            None if (n, tau) == (4, 0) else 5.0 - n / 16 - tau / 1000,
            0.9,
            values(0.7 - 0.1 * ((n, tau) != best)),
            values(0.8 - 0.1 * ((n, tau) != best)),
        )
        for n, tau in PAIRS
    )
    versions = tuple(
        Version(method, values(ssim)) for method, ssim in zip(METHODS, (0.5, ours - 0.1, ours), strict=True)
    )
    return FaceResult(setting, status, "", 4, 220, 9, versions, grid=grid)


FACES = [
    face("clean-1", (4, 0), ours=1.0, status="kept"),
    face("mild-4", (4, 220)),
    face("mild-16", (4, 220)),
    face("severe-8", (16, 350)),
]


def cost(n: int, tau: int) -> int:
    return n


def config(*, grid: int | None = 40, seed: int = 0, **restore: object) -> EvaluationConfig:
    section = evaluate_section(grid=grid, settings=tuple(setting.name for setting in (CLEAN, *SETTINGS)))
    return EvaluationConfig.of(build({"input": "in", "output": "out", "seed": seed, "restore": restore}), section)


def ssim(rule: str, output: Output = "enhanced", faces: list[FaceResult] = FACES) -> list[float]:
    return [round(one.values["ssim"] or 0, 3) for one in taken(faces, output, cost, SEARCHED)[rule]]


def test_each_rule_takes_what_it_says() -> None:
    assert ssim(INPUT) == [0.5] * 4
    assert ssim(CHOICE) == [1.0, 0.75, 0.75, 0.75]
    assert ssim(ARGMIN) == [0.7, 0.7, 0.7, 0.8]
    assert ssim(HAND) == [0.7, 0.8, 0.8, 0.8]
    assert ssim(ORACLE) == [0.8] * 4
    assert ssim(ORACLE, "dr2") == [0.7] * 4


def test_the_best_fixed_pair_is_that_of_the_degraded_faces() -> None:
    clean_ones = [face("clean-1", (4, 0))] * 5
    assert best_fixed([*clean_ones, *FACES], "enhanced") == (4, 220)
    assert ssim(FIXED) == [0.7, 0.8, 0.8, 0.7]
    assert best_fixed(clean_ones, "dr2") == (4, 0)


def test_rules_say_what_they_cost() -> None:
    spent = {rule: {one.evaluations for one in found} for rule, found in taken(FACES, "dr2", cost, SEARCHED).items()}
    assert spent == {INPUT: {0}, CHOICE: {9}, ARGMIN: {SEARCHED}, ORACLE: {SEARCHED}, FIXED: {4}, HAND: {4, 16}}


def test_a_grid_without_the_pairs_by_hand_leaves_that_rule_out() -> None:
    coarse = [
        FaceResult(f.setting, f.status, "", 4, 0, 9, f.versions, grid=tuple(c for c in f.grid if c.tau == 0))
        for f in FACES
    ]
    assert HAND not in taken(coarse, "dr2", cost, SEARCHED)


def test_clean_faces_do_not_flatter_the_mean_of_the_degraded() -> None:
    found = compare(FACES, METRIC, "enhanced", cost, SEARCHED)
    line, clean = found.line("all degraded", CHOICE), found.line("clean", CHOICE)
    assert line is not None and clean is not None
    assert (line.faces, line.kept, line.means["ssim"].mean) == (3, 0, pytest.approx(0.75))
    assert (clean.faces, clean.kept) == (1, 1)
    assert found.line("medium", CHOICE) is None
    lost = {(loss.split, loss.rule): loss.differences["ssim"].mean for loss in found.losses}
    assert lost["all degraded", ORACLE] == pytest.approx(-0.05)
    assert lost["severe", FIXED] == pytest.approx(0.05)


def test_the_page_and_the_document_say_the_same() -> None:
    compared = [compare(FACES, METRIC, "dr2", cost, SEARCHED)]
    page, document = choice_page(compared, METRIC, config()), choice_document(compared)
    assert "Best fixed pair: N = 4, tau = 220." in page
    assert "| severe | 1 | oracle (looks at the truth) |" in page
    assert "| all degraded | oracle | -0.50" in page
    (fixed,) = {tuple(of_output["fixed"]) for of_output in document.values()}
    assert fixed == (4, 220) and set(document) == {"dr2"}


def test_the_page_says_what_was_measured_and_by_what() -> None:
    usual, other = choice_page([], METRIC, config()), choice_page([], METRIC, config(n=4, tau=40, niqe="pyiqa:piqe"))
    assert "tau of 0, 40 .. 400" in usual and "*automatic*, this run's own choice" in usual
    assert "*automatic*, here the fixed pair N = 4, tau = 40" in other and "here of pyiqa:piqe" in other


def test_what_a_fit_needs_and_the_pairs_by_hand_have_chains_of_their_own() -> None:
    found = {(chain.n, tau): chain for chain in own_chains(128) for tau in chain.taus}
    by_hand = {(n, tau // 10) for n, tau in BY_HAND.values()}
    assert set(found) == {*FITTED, *by_hand, *((1, tau) for tau in PROBE)}
    assert all(chain == Chain.to(*pair) for pair, chain in found.items() if pair[0] > 1)
    assert measured_chains(128, step=4, stride=4)[-len(own_chains(128)) :] == own_chains(128)
    assert {chain.n for chain in own_chains(36)} == {1, 2, 4}


def test_every_photo_has_one_setting_by_seed_and_key() -> None:
    keys = [f"k{i}" for i in range(300)]
    drawn = [config().settings_of(key) for key in keys]
    assert {len(settings) for settings in drawn} == {1}
    assert {settings[0] for settings in drawn} == {CLEAN, *SETTINGS}
    assert drawn == [config().settings_of(key) for key in keys]
    assert drawn != [config(seed=1).settings_of(key) for key in keys]
    assert config(grid=None).settings_of("k1") == (CLEAN, *SETTINGS)


def test_clean_is_the_truth_itself() -> None:
    truth = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert degraded(truth, CLEAN, seed=0, key="k", grey=False) is truth


def test_curves_have_a_row_per_severity_and_survive_what_cannot_be_measured() -> None:
    with Image.open(io.BytesIO(curves(FACES))) as picture:
        three = picture.size
        assert np.asarray(picture.convert("L")).std() > 5
    with Image.open(io.BytesIO(curves(FACES[:1]))) as picture:
        assert picture.size[0] == three[0] and picture.size[1] * 3 == three[1]
