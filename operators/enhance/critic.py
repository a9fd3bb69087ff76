"""A small critic of patches, and how an enhancer learns from it.

Where the input does not decide, L1 and SSIM are best answered with the mean of all possible faces, which is smooth.
A critic that tells patches of enhanced faces from patches of photographs (PatchGAN: Isola et al. 2017, arXiv
1611.07004) pulls the answer back to where photographs are.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from operators.enhance.network import FaceEnhancer, NetworkConfig

_SLOPE = 0.2


class PatchCritic(nn.Module):
    """(B, 3, H, W) in [-1, 1], sides multiples of 8 -> one number per patch: above zero looks like a photograph.

    Spectral normalisation (Miyato et al. 2018, arXiv 1802.05957) bounds its slope, so that it cannot shout the other
    losses down. A patch is seen through 38 x 38 pixels: texture and edges, not who the person is.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 64)) -> None:
        super().__init__()
        first, second, third = widths
        self.stem = spectral_norm(nn.Conv2d(3 * 4, first, 3, padding=1))
        self.fine = spectral_norm(nn.Conv2d(first, second, 4, stride=2, padding=1))
        self.coarse = spectral_norm(nn.Conv2d(second, third, 4, stride=2, padding=1))
        self.verdict = spectral_norm(nn.Conv2d(third, 1, 3, padding=1))

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, H / 8, W / 8)."""
        features = functional.pixel_unshuffle(faces, 2)
        for layer in (self.stem, self.fine, self.coarse):
            features = functional.leaky_relu(layer(features), _SLOPE)
        verdict: Tensor = self.verdict(features)
        return verdict


class Adversaries(nn.Module):
    """An enhancer and its critic, trained by one optimiser, so that one checkpoint holds both."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.enhancer = FaceEnhancer(config)
        self.critic = PatchCritic()


def adversarial_loss(critic: PatchCritic, enhanced: Tensor, target: Tensor, weight: float) -> Tensor:
    """The critic's logistic loss, whose gradient reaches `enhanced` reversed and times `weight`.

    softplus(D(enhanced)) + softplus(-D(target)), means over patches: minimising it makes the critic better, while the
    enhancer climbs it (gradient reversal: Ganin and Lempitsky 2015, arXiv 1409.7495). enhanced, target: (B, 3, H, W)
    in [-1, 1].
    """
    reversed_ = (1.0 + weight) * enhanced.detach() - weight * enhanced  # the same values, the slope -weight
    return functional.softplus(critic(reversed_)).mean() + functional.softplus(-critic(target)).mean()
