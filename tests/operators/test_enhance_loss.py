import numpy as np
import torch
from scipy import ndimage
from skimage import data, metrics

from operators.enhance.loss import edge_difference, enhancement_loss, ssim


def astronaut() -> torch.Tensor:
    """(1, 3, 128, 128) float64 in [0, 1]."""
    return torch.from_numpy(data.astronaut()[20:148, 160:288].copy()).permute(2, 0, 1)[None].double() / 255


def softened(image: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, 0, 1.5, 1.5)))


def test_ssim_agrees_with_scikit_image() -> None:
    first, second = astronaut(), softened(astronaut())
    weights = np.array([0.299, 0.587, 0.114])
    a, b = (np.einsum("c,chw->hw", weights, image[0].numpy()) for image in (first, second))
    _, local = metrics.structural_similarity(
        a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert abs(float(ssim(first, second)) - local[5:-5, 5:-5].mean()) < 1e-6


def test_a_perfect_result_costs_nothing_and_a_soft_one_does() -> None:
    sharp = astronaut() * 2 - 1
    perfect, parts = enhancement_loss(sharp, sharp)
    assert float(perfect) < 1e-9
    assert abs(parts["ssim"] - 1) < 1e-9
    soft, _ = enhancement_loss(softened(sharp), sharp)
    softer, _ = enhancement_loss(softened(softened(sharp)), sharp)
    assert 0.05 < float(soft) < float(softer)


def test_edges_ignore_a_shift_of_brightness() -> None:
    image = astronaut()
    assert float(edge_difference(image + 0.25, image)) < 1e-12
    assert float(edge_difference(softened(image), image)) > 0.01
