import numpy as np
import pytest
import torch
from scipy import ndimage

from operators.degrade.blur import blur, blur_batch, draw_sigmas, gaussian_kernel
from operators.degrade.classical import DOWNSAMPLING, SEVERITIES, classical, draw
from operators.degrade.steps import NOISES, Noise


def picture(size: int = 128, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(size, size, 3)), (3, 3, 0))
    return np.asarray(np.clip(128 + 60 * smooth / smooth.std(), 0, 255), np.uint8)


def grey(size: int = 256, level: int = 128) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


@pytest.mark.parametrize("sigma", [0.8, 1.7, 5.0])
def test_kernel_has_unit_mass_and_the_variance_asked_for(sigma: float) -> None:
    kernel = gaussian_kernel(sigma)
    at = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * at**2).sum() == pytest.approx(sigma**2, rel=0.01)
    assert np.array_equal(kernel, kernel[::-1])


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_bad_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        gaussian_kernel(sigma)


def test_batch_blur_is_the_single_blur_with_each_face_its_own_sigma() -> None:
    faces = np.stack([picture(32, seed).astype(np.float64) for seed in range(3)])
    sigmas = np.array([0.0, 0.8, 12.0])  # the last kernel is wider than the face
    batch = blur_batch(torch.from_numpy(faces.transpose(0, 3, 1, 2)), sigmas).numpy().transpose(0, 2, 3, 1)
    for face, sigma, got in zip(faces, sigmas, batch, strict=True):
        np.testing.assert_allclose(got, blur(face, sigma), atol=1e-9)


def test_enhancer_sigmas_scale_with_the_face() -> None:
    large = draw_sigmas(500, 512, np.random.default_rng(1))
    assert 1 <= large.min() < 1.2 and 6.8 < large.max() <= 7
    np.testing.assert_allclose(draw_sigmas(500, 128, np.random.default_rng(1)), large / 4)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_the_deviation_asked_for_at_mid_grey(noise: Noise) -> None:
    noisy = classical(
        grey(), r=1, sigma=0, noise=noise, delta=15, quality=95, rng=np.random.default_rng(0), keep_small=True
    )
    luma = noisy.astype(float) @ [0.299, 0.587, 0.114]  # JPEG halves the chroma's resolution but keeps luma
    assert luma.mean() == pytest.approx(128, abs=1)
    assert luma.std() == pytest.approx(15 * np.linalg.norm([0.299, 0.587, 0.114]), rel=0.1)


def test_poisson_noise_grows_with_brightness() -> None:
    def deviation(level: int) -> float:
        rng = np.random.default_rng(0)
        return float(classical(grey(level=level), r=1, sigma=0, noise="poisson", delta=15, quality=95, rng=rng).std())

    assert deviation(160) / deviation(40) == pytest.approx(2, rel=0.1)


def test_small_image_has_the_size_r_asks_for_and_the_result_has_its_own() -> None:
    image, rng = picture(96), np.random.default_rng(0)
    small = classical(image, r=3.2, sigma=1, noise="laplace", delta=5, quality=80, rng=rng, keep_small=True)
    assert small.shape == (30, 30, 3)
    large = classical(image, r=3.2, sigma=1, noise="laplace", delta=5, quality=80, rng=rng)
    assert large.shape == image.shape and large.dtype == np.uint8


def test_without_damage_the_image_survives() -> None:
    image = picture()
    same = classical(image, r=1, sigma=0, noise="gaussian", delta=0, quality=95, rng=np.random.default_rng(0))
    assert np.abs(same.astype(int) - image).mean() < 4  # what JPEG 95 costs


@pytest.mark.parametrize("bad", [{"r": 0.5}, {"delta": -1.0}, {"quality": 0}, {"noise": "salt"}])
def test_bad_parameters_are_refused(bad: dict[str, object]) -> None:
    good: dict[str, object] = {"r": 2, "sigma": 1, "noise": "gaussian", "delta": 5, "quality": 50}
    with pytest.raises(ValueError):
        classical(picture(16), rng=np.random.default_rng(0), **(good | bad))  # type: ignore[arg-type]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("r", DOWNSAMPLING)
def test_draws_stay_in_range_and_repeat_from_their_seed(severity: str, r: int) -> None:
    preset = SEVERITIES[severity]
    for seed in range(20):
        drawn = draw(severity, r, np.random.default_rng(seed))
        assert drawn == draw(severity, r, np.random.default_rng(seed))
        assert drawn.r == r and drawn.noise in NOISES
        assert preset.sigma[0] <= drawn.sigma <= preset.sigma[1]
        assert preset.delta[0] <= drawn.delta <= preset.delta[1]
        assert preset.quality[0] <= drawn.quality <= preset.quality[1]


def test_a_severity_means_the_same_damage_at_every_size() -> None:
    large, small = (draw("medium", 16, np.random.default_rng(3), size) for size in (512, 128))
    assert small.sigma == pytest.approx(large.sigma / 4)
    assert 512 / large.r == 128 / small.r
    assert draw("medium", 4, np.random.default_rng(3), 64).r == 1


def test_unknown_severity_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mild, medium, severe"):
        draw("awful", 4, np.random.default_rng(0))


def test_worse_severities_lose_more() -> None:
    image = picture()

    def loss(severity: str) -> float:
        rng = np.random.default_rng(5)
        return float(np.mean((draw(severity, 8, rng, 128).apply(image, rng) - image.astype(float)) ** 2))

    assert loss("mild") < loss("medium") < loss("severe")
