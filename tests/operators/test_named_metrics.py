"""Metrics of pyiqa by their names, from files alone: MUSIQ in its published layout, and no way to the network."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from published import state_of

from operators.quality.metrics.named import NamedMetric, describe
from operators.quality.metrics.names import METRICS, metrics_called
from operators.quality.metrics.offline import from_folder
from operators.quality.metrics.panel import Panel
from operators.quality.niqe import Niqe
from operators.training.weights import WeightsError

MUSIQ = "musiq_koniq_ckpt-e95806b9.pth"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pyiqa.archs.musiq_arch import MUSIQ as Network

    path = tmp_path_factory.mktemp("metrics")
    torch.save(state_of(Network(pretrained=False)), path / MUSIQ)
    return path


@pytest.fixture(scope="module")
def faces() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, 192, 192, 3), np.uint8)


def test_musiq_scores_as_pyiqa_does_from_a_file(folder: Path, faces: NDArray[np.uint8]):
    import pyiqa

    metric = NamedMetric("musiq", folder)
    assert metric.files == (folder / MUSIQ,) and not metric.needs_truth
    scores = metric.measure(faces, faces)
    theirs = pyiqa.create_metric("musiq", pretrained_model_path=str(folder / MUSIQ), device=torch.device("cpu"))
    expected = [float(theirs(torch.from_numpy(face[None]).permute(0, 3, 1, 2).float() / 255)) for face in faces]
    assert scores == pytest.approx(expected, abs=1e-4)
    assert scores[0] != scores[1]
    assert scores[:1] == pytest.approx(metric.measure(faces[:1], faces[:1])), "whatever is in the batch"


def test_a_missing_file_is_named_with_its_place_and_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in ("torch.hub.download_url_to_file", "pyiqa.utils.download_util.download_url_to_file"):
        monkeypatch.setattr(module, lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(WeightsError, match=f"'musiq' needs {MUSIQ}, .*; put it into {tmp_path}$"):
        NamedMetric("musiq", tmp_path)
    with pytest.raises(WeightsError, match=f"needs {MUSIQ}, .*; name a folder that holds it$"):
        NamedMetric("musiq", None)
    with pytest.raises(WeightsError, match=r"'dists' needs vgg16-397923af.pth, as pyiqa and torchvision publish it"):
        NamedMetric("dists", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_wants_a_hub_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        WeightsError, match=r"'maniqa' fetches more than single files, and nothing is downloaded"
    ) as raised:
        NamedMetric("maniqa", tmp_path)
    assert "\n" not in str(raised.value)


def test_only_this_thread_is_kept_from_the_network_and_only_meanwhile(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        reached: list[bool] = []

        def reach() -> None:
            socket.create_connection(address).close()
            reached.append(True)

        with from_folder(tmp_path) as taken:
            with pytest.raises(ConnectionError, match="files alone"):
                reach()
            other = threading.Thread(target=reach)
            other.start()
            other.join()
        assert taken.refused and reached == [True]
        reach()


def test_broken_weights_and_code_are_refused(tmp_path: Path):
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"x": Payload()}, tmp_path / MUSIQ)
    with pytest.raises(WeightsError, match="'musiq' could not be made"):
        NamedMetric("musiq", tmp_path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["musik", "fid", "inception_score"])
def test_what_is_no_metric_of_faces_is_told_with_those_there_are(name: str):
    with pytest.raises(WeightsError, match=rf"'{name}' is no metric of single faces in pyiqa; it has .*musiq"):
        describe(name)


def test_one_that_runs_code_of_a_hub_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match="'qalign' runs code"):
        NamedMetric("qalign", tmp_path)


def test_a_metric_with_a_truth_gets_it(faces: NDArray[np.uint8]):
    """VIF needs no weights."""
    vif = NamedMetric("vif", None)
    assert vif.needs_truth and vif.files == ()
    assert vif.measure(faces, faces) == pytest.approx([1, 1], abs=1e-3)
    assert (vif.measure(faces, faces[::-1]) < 0.5).all()


def test_what_cannot_be_scored_is_infinite(faces: NDArray[np.uint8]):
    flat = np.full((1, 192, 192, 3), 128, np.uint8)
    scores = NamedMetric("piqe", None).measure(np.concatenate([flat, faces[:1]]), np.concatenate([flat, faces[:1]]))
    assert not np.isnan(scores).any() and np.isfinite(scores[1])


def test_tables_know_what_is_better():
    musiq, piqe = describe("musiq"), describe("piqe")
    assert (musiq.name, musiq.higher_is_better, musiq.digits) == ("musiq", True, 2)
    assert not piqe.higher_is_better and describe("maniqa").digits == 3
    names = [metric.name for metric in metrics_called(["piqe", "niqe", "gone", "psnr", "musiq"])]
    assert names == ["psnr", "niqe", "musiq", "piqe"]
    assert metrics_called(metric.name for metric in METRICS) == list(METRICS)


def test_the_panel_measures_it_beside_the_others(folder: Path, faces: NDArray[np.uint8]):
    panel = Panel(Niqe.load("builtin"), folder, ["musiq", "piqe"])
    (values,) = panel.measure(list(faces[:1]), faces[1])
    assert {"psnr", "niqe", "musiq", "piqe"} <= values.keys()
    assert "musiq" not in panel.distances(list(faces[:1]), faces[1])[0]
