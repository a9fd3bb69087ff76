"""Another judge than NIQE: pyiqa's metrics by name. PIQE needs no weights, so it is really run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyiqa
import pytest
import torch
from scipy import ndimage

from operators.quality.judge import PyiqaJudge, load_judge
from operators.quality.niqe import Niqe
from operators.training.weights import WeightsError


def textured(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    soft = ndimage.gaussian_filter(rng.standard_normal((3, 128, 128)), (0, 2, 2))
    return torch.from_numpy(np.clip(0.5 + 0.2 * soft / soft.std(), 0, 1)).float()[None]


def test_a_judge_is_loaded_by_its_name() -> None:
    assert isinstance(load_judge("builtin"), Niqe)
    piqe = load_judge("pyiqa:piqe")
    assert isinstance(piqe, PyiqaJudge) and len(piqe.fingerprint) == 64
    assert piqe.fingerprint != load_judge("pyiqa:entropy").fingerprint


def test_a_score_does_not_depend_on_the_batch_and_lower_is_better() -> None:
    noisy = (textured() + 0.3 * torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    both = load_judge("pyiqa:piqe").score(torch.cat([textured(), noisy]))
    alone = load_judge("pyiqa:piqe").score(textured())
    assert both.dtype == np.float64 and both[0] == alone[0] < both[1]
    entropy = load_judge("pyiqa:entropy").score(torch.cat([textured(), torch.full((1, 3, 128, 128), 0.5)]))
    assert entropy[0] < entropy[1]  # there more is better


@pytest.mark.parametrize("name", ["piqe", "entropy"])
def test_what_cannot_be_judged_has_a_score_all_the_same(name: str) -> None:
    odd = torch.full((3, 3, 128, 128), 0.5)
    odd[1], odd[2, 0, 0, 0] = 1.0, float("nan")
    scores = PyiqaJudge(name).score(torch.cat([textured(), odd]))
    assert np.isfinite(scores[0]) and not np.isnan(scores).any() and scores[3] == np.inf


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(WeightsError, match=r"'niqqe' is no no-reference metric of pyiqa; it has .*musiq"):
        load_judge("pyiqa:niqqe")


@pytest.mark.parametrize("name", ["qalign", "qalign_4bit", "compare2score"])
def test_a_metric_that_runs_code_from_a_hub_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyiqa.create_metric", lambda *_, **__: pytest.fail("it was created"))
    with pytest.raises(WeightsError, match=f"'{name}' runs code that it downloads"):
        load_judge(f"pyiqa:{name}")


def test_these_are_all_that_pyiqa_has() -> None:
    """Fails when a new release of it trusts more code: then RUN_CODE lacks a name."""
    archs = Path(pyiqa.__file__).parent / "archs"
    trusting = {
        path.relative_to(archs).parts[0] for path in archs.rglob("*.py") if "trust_remote_code" in path.read_text()
    }
    assert trusting == {"qalign_arch.py", "compare2score_arch.py", "q_align"}
    importing = {path.name for path in archs.glob("*.py") if "q_align" in path.read_text()}
    assert importing <= {"qalign_arch.py", "compare2score_arch.py"}


def test_a_metric_that_scores_no_single_face_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class WantsCaptions:
        lower_better = False

        def __call__(self, image: torch.Tensor) -> float:
            raise AssertionError("a caption is needed")

    monkeypatch.setattr("pyiqa.create_metric", lambda *_, **__: WantsCaptions())
    with pytest.raises(WeightsError, match="'clipscore' scores no single face: AssertionError: a caption is needed"):
        load_judge("pyiqa:clipscore")


def test_weights_of_another_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"x": Payload()}, tmp_path / "weights.pth")

    def loads(*_: object, **__: object) -> None:
        torch.load(tmp_path / "weights.pth", weights_only=False)

    monkeypatch.setattr("pyiqa.create_metric", loads)
    with pytest.raises(WeightsError, match="could not be loaded"):
        load_judge("pyiqa:piqe")
    assert not (tmp_path / "owned").exists()
