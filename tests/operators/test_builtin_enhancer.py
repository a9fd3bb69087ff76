"""The enhancer in the package, on a face it cannot have seen: Eileen Collins, photographed by NASA."""

import numpy as np
import pytest
from PIL import Image
from skimage import data, metrics

from operators import weights
from operators.degrade.blur import blur
from operators.enhance import registry
from operators.enhance.contract import Enhancer
from operators.images import to_grey
from operators.training.weights import load_weights


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return registry.load("builtin")


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    """(256, 256, 3) uint8: the face, framed about as alignment does."""
    head = Image.fromarray(data.astronaut()[28:228, 124:324])
    return np.asarray(head.resize((256, 256), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def soft(sharp: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8: half the size, blurred by the middle of Eq. 12's range."""
    small = np.asarray(Image.fromarray(sharp).resize((128, 128), Image.Resampling.BICUBIC))
    return np.clip(blur(small.astype(np.float32), 1.0) + 0.5, 0, 255).astype(np.uint8)


def test_it_comes_closer_to_the_sharp_face(enhancer: Enhancer, sharp: np.ndarray, soft: np.ndarray) -> None:
    def psnr(image: np.ndarray) -> float:
        return float(metrics.peak_signal_noise_ratio(sharp, image))

    assert psnr(enhancer.enhance(soft[None])[0]) > psnr(registry.load("none").enhance(soft[None])[0]) + 0.1


def test_it_casts_no_colour(enhancer: Enhancer, soft: np.ndarray) -> None:
    enhanced = enhancer.enhance(soft[None])[0].astype(float)
    assert np.abs(enhanced.mean(axis=(0, 1)) - soft.mean(axis=(0, 1))).max() < 2


def test_grey_stays_grey_whatever_is_beside_it(enhancer: Enhancer, soft: np.ndarray) -> None:
    grey, coloured = enhancer.enhance(np.stack([to_grey(soft), soft]))
    assert (grey == grey[..., :1]).all()
    assert (coloured != coloured[..., :1]).any()


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
def test_a_flat_image_stays_flat(enhancer: Enhancer, level: int) -> None:
    """No checkerboard, no vignette: what the pixel shuffles could leave."""
    enhanced = enhancer.enhance(np.full((1, 128, 128, 3), level, np.uint8))[0].astype(int)
    assert np.abs(enhanced - level).max() <= 6


def test_the_file_is_small_and_says_how_it_came_to_be(enhancer: Enhancer) -> None:
    path = weights.builtin("enhancer")
    assert path.stat().st_size < 6_000_000
    assert sum(file.stat().st_size for file in path.parent.glob("*.safetensors")) < 25_000_000
    _, description = load_weights(path, "enhancer")
    assert description["training"]["steps"] > 0
    assert enhancer.licence == "Apache-2.0"
