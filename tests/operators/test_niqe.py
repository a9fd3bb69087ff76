from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from operators.quality.niqe import Niqe
from operators.quality.niqe_features import patch_features
from operators.quality.niqe_fit import fit
from operators.training.weights import WeightsError, save_weights

PATCH = 32


def textures(count: int, size: int = 128, seed: int = 0) -> np.ndarray:
    """(count, size, size, 3) uint8 images with the 1 / f spectrum of natural ones."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    spectrum = np.fft.fft2(rng.standard_normal((count, size, size))) / np.maximum(frequency, 1 / size)
    luma = np.fft.ifft2(spectrum).real
    luma = 128 + 40 * luma / luma.std(axis=(1, 2), keepdims=True)
    return np.repeat(np.clip(luma, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def niqe() -> Niqe:
    return fit(textures(64), PATCH, sharpness=0.5)


def test_features_are_pyiqas() -> None:
    from pyiqa.archs.func_util import normalize_img_with_gauss
    from pyiqa.archs.niqe_arch import compute_feature
    from pyiqa.matlab_utils import blockproc, imresize
    from pyiqa.utils.color_util import to_y_channel

    images = tensor(textures(3, seed=5))
    luma = to_y_channel(images, 255, "yiq").double()
    half = imresize(luma / 255, scale=0.5, antialiasing=True) * 255
    expected = torch.cat(
        [
            blockproc(normalize_img_with_gauss(level, padding="replicate"), [side, side], fun=compute_feature)
            for level, side in ((luma, PATCH), (half, PATCH // 2))
        ],
        dim=-1,
    )
    # a rounding error may pick the neighbouring shape of the grid, 0.001 away
    np.testing.assert_allclose(patch_features(images, PATCH), expected.numpy(), atol=2e-3)


def test_score_agrees_with_pyiqa_at_its_own_patch_size(niqe: Niqe, tmp_path: Path) -> None:
    import pyiqa
    from scipy.io import savemat

    savemat(tmp_path / "niqe.mat", {"mu_prisparam": niqe.mean[None], "cov_prisparam": niqe.covariance})
    metric = pyiqa.create_metric("niqe", pretrained_model_path=str(tmp_path / "niqe.mat"), device="cpu")
    images = tensor(textures(2, 192, seed=9))
    model = Niqe(niqe.mean, niqe.covariance, patch=96)
    np.testing.assert_allclose(model.score(images), metric(images).numpy(), rtol=2e-3)


def test_damage_scores_worse(niqe: Niqe) -> None:
    fresh = textures(6, seed=11)
    blurred = ndimage.gaussian_filter(fresh, (0, 2, 2, 0))
    noise = np.random.default_rng(0).normal(0, 30, fresh.shape[:3])[..., None]
    noisy = np.clip(fresh + noise, 0, 255).astype(np.uint8)
    clean = niqe.score(tensor(fresh))
    assert (niqe.score(tensor(blurred)) > 1.5 * clean).all()
    assert (niqe.score(tensor(noisy)) > 1.5 * clean).all()


def test_score_does_not_depend_on_the_batch(niqe: Niqe) -> None:
    images = tensor(textures(7, seed=2))
    images[3] = 0.5  # a hopeless neighbour must not matter either
    together = niqe.score(images)
    assert together.dtype == np.float64
    alone = np.concatenate([niqe.score(images[i : i + 1]) for i in range(7)])
    assert np.array_equal(together, alone)
    assert np.array_equal(niqe.score(images.flip(0)), together[::-1])


def hopeless() -> dict[str, torch.Tensor]:
    nan, infinite = tensor(textures(1)), tensor(textures(1))
    nan[0, 1, 60, 60] = torch.nan
    infinite[0, 0, 5, 5] = torch.inf
    return {
        "constant": torch.full((1, 3, 128, 128), 0.3),
        "black": torch.zeros(1, 3, 128, 128),
        "saturated": torch.full((1, 3, 128, 128), 7.0),
        "nan": nan,
        "infinite": infinite,
        "tiny": torch.rand(1, 3, 8, 8),
        "one patch": tensor(textures(1, 40)),
        "one pixel": torch.rand(1, 3, 1, 1),
        "mostly constant": torch.cat([torch.zeros(1, 3, 128, 96), tensor(textures(1))[..., :32]], dim=3)[:, :, :96],
    }


@pytest.mark.parametrize("name", hopeless())
def test_hopeless_images_score_infinity(niqe: Niqe, name: str) -> None:
    assert niqe.score(hopeless()[name]).tolist() == [np.inf]


def test_empty_batch_and_odd_sizes_have_scores(niqe: Niqe) -> None:
    assert niqe.score(torch.empty(0, 3, 128, 128)).shape == (0,)
    assert np.isfinite(niqe.score(tensor(textures(1, 131))[:, :, :100])).all()


def test_a_wrong_shape_is_refused(niqe: Niqe) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        niqe.score(torch.zeros(3, 128, 128))


def test_saved_model_scores_the_same_bit_for_bit(niqe: Niqe, tmp_path: Path) -> None:
    path = tmp_path / "niqe.safetensors"
    niqe.save(path, {"name": "test"})
    loaded = Niqe.load(path)
    images = tensor(textures(2, seed=4))
    assert np.array_equal(loaded.score(images), niqe.score(images))
    assert loaded.patch == PATCH and len(loaded.fingerprint) == 64


def test_another_kind_of_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    save_weights(path, {"mean": torch.zeros(36)}, {"kind": "prior"})
    with pytest.raises(WeightsError, match=r"prior\.safetensors"):
        Niqe.load(path)
    save_weights(path, {"mean": torch.zeros(36)}, {"kind": "niqe", "patch": 32})
    with pytest.raises(WeightsError, match="fit-niqe"):
        Niqe.load(path)


def test_fitting_needs_enough_patches() -> None:
    with pytest.raises(ValueError, match="usable patches in 2 images"):
        fit(textures(2), PATCH, sharpness=0.5)


def test_only_sharp_patches_count(niqe: Niqe) -> None:
    images = textures(64)
    images[:, :, 96:] = ndimage.gaussian_filter(images, (0, 4, 4, 0))[:, :, 96:]
    picky, greedy = fit(images, PATCH, sharpness=0.6), fit(images, PATCH, sharpness=0.0)

    def distance(model: Niqe) -> float:
        return float(np.linalg.norm((model.mean - niqe.mean) / np.sqrt(np.diag(niqe.covariance))))

    assert distance(picky) < distance(greedy) / 3
