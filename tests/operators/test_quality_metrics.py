"""The metrics of an evaluation against cases worked out by hand, and against pyiqa's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from operators.quality.metrics.names import METRICS, measurable
from operators.quality.metrics.panel import Panel
from operators.quality.metrics.reference import MIN_SIDE, reference_metrics
from operators.quality.niqe import Niqe

Images = NDArray[np.uint8]


def smooth(count: int, height: int, width: int, seed: int = 0) -> Images:
    """Images with structure at several scales that touch neither 0 nor 255."""
    noise = np.random.default_rng(seed).normal(size=(count, height, width, 3))
    waves = sum(gaussian_filter(noise, (0, sigma, sigma, 0)) * sigma for sigma in (1, 3, 9))
    return np.clip(128 + 40 * waves / waves.std(), 20, 235).astype(np.uint8)


def noisy(images: Images, deviation: float) -> Images:
    noise = np.random.default_rng(1).normal(0, deviation, images.shape)
    return np.clip(images + noise, 0, 255).round().astype(np.uint8)


def test_equal_images_are_perfect():
    images = smooth(2, MIN_SIDE, MIN_SIDE)
    values = reference_metrics(images, images)
    assert values["psnr"] == pytest.approx([80, 80])
    assert values["ssim"] == pytest.approx([1, 1])
    assert values["ms_ssim"] == pytest.approx([1, 1])
    assert values["gmsd"] == pytest.approx([0, 0], abs=1e-12)


def test_psnr_of_a_known_error():
    images = smooth(1, MIN_SIDE, MIN_SIDE)
    assert reference_metrics(images + 10, images)["psnr"] == pytest.approx([20 * np.log10(255 / 10)], abs=1e-4)


def test_brightness_alone_leaves_the_structure():
    images = smooth(1, MIN_SIDE, MIN_SIDE)
    brighter = reference_metrics(images + 10, images)
    spoilt = reference_metrics(noisy(images, 10), images)
    assert brighter["psnr"] == pytest.approx(spoilt["psnr"], abs=0.5)
    assert brighter["ssim"] > spoilt["ssim"] + 0.1
    assert brighter["gmsd"] < 0.01 < spoilt["gmsd"]


def test_ssim_and_ms_ssim_are_those_of_pyiqa():
    from pyiqa.archs.ssim_arch import MS_SSIM, SSIM

    truth = smooth(1, MIN_SIDE, MIN_SIDE + 9)  # odd at some of the five scales
    spoilt = noisy(truth, 15)
    ours = reference_metrics(spoilt, truth)
    x, y = (torch.from_numpy(image).permute(0, 3, 1, 2).double() / 255 for image in (spoilt, truth))
    assert ours["ssim"] == pytest.approx(SSIM()(x, y).numpy(), abs=1e-6)
    assert ours["ms_ssim"] == pytest.approx(MS_SSIM()(x, y).numpy(), abs=1e-6)


def test_a_face_is_measured_the_same_in_any_company():
    truth = smooth(3, MIN_SIDE, MIN_SIDE)
    spoilt = noisy(truth, 15)
    together, alone = reference_metrics(spoilt, truth), reference_metrics(spoilt[1:2], truth[1:2])
    for name in ("psnr", "ssim", "ms_ssim", "gmsd"):
        assert together[name][1] == pytest.approx(alone[name][0], rel=1e-9)


@pytest.mark.parametrize("shape", [(1, MIN_SIDE - 1, 200, 3), (1, 200, 200), (1, 200, 200, 1)])
def test_other_shapes_are_refused(shape):
    images = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match="need two"):
        reference_metrics(images, images)


def test_without_weights_five_metrics_can_be_measured(tmp_path: Path):
    (tmp_path / "alexnet-owt-7be5be79.pth").touch()  # half of what LPIPS needs
    (tmp_path / "pt_inception-2015-12-05-6726825d.pth").touch()
    for folder, names in ((None, set()), (tmp_path, {"fid"})):
        there, absent = measurable(folder)
        assert {metric.name for metric in there} == {"psnr", "ssim", "ms_ssim", "gmsd", "niqe"} | names
        assert [*there, *absent] == sorted(METRICS, key=[*there, *absent].index)


def test_the_panel_measures_each_version_and_has_no_features_without_weights():
    truth = smooth(1, 256, 256)[0]
    versions = [noisy(truth, deviation) for deviation in (20, 5)]
    panel = Panel(Niqe.load("builtin"))
    first, second = panel.measure(versions, truth)
    assert set(first) == {"psnr", "ssim", "ms_ssim", "gmsd", "niqe"}
    assert first["psnr"] < second["psnr"]
    assert first["ssim"] < second["ssim"]
    assert np.isfinite([first["niqe"], second["niqe"]]).all()
    assert panel.features(versions) is None
