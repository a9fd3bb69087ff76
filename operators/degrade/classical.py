"""The classical degradation model, Eq. 13 of DR2E (arXiv 2303.06885).

    y = JPEG_q( (x * k_sigma) downsampled by r  +  n_delta )

blur, downsample, noise, JPEG, in that order. `Classical` carries one draw of its parameters.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.degrade.blur import REFERENCE_SIZE, blur
from operators.degrade.steps import NOISES, Noise, add_noise, jpeg, resize, to_uint8


@dataclass(frozen=True)
class Severity:
    """Ranges (low, high) of Eq. 13's parameters: sigma in pixels at 512 px, delta in grey levels, JPEG quality."""

    sigma: tuple[float, float]
    delta: tuple[float, float]
    quality: tuple[int, int]


SEVERITIES: dict[str, Severity] = {
    "mild": Severity(sigma=(3, 5), delta=(5, 20), quality=(60, 80)),
    "medium": Severity(sigma=(5, 7), delta=(15, 40), quality=(40, 60)),
    "severe": Severity(sigma=(7, 9), delta=(25, 50), quality=(30, 40)),
}
"""The paper's three test splits. Each goes with every r of DOWNSAMPLING."""

DOWNSAMPLING = (4, 8, 16)
"""The paper's r, at 512 px."""


@dataclass(frozen=True)
class Classical:
    """One draw of Eq. 13's parameters, in pixels of the image it is applied to; see `classical`."""

    r: float
    sigma: float
    noise: Noise
    delta: float
    quality: int

    def apply(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Degrades `image` (H, W, 3) uint8 with these parameters; same size."""
        return classical(
            image,
            r=self.r,
            sigma=self.sigma,
            noise=self.noise,
            delta=self.delta,
            quality=self.quality,
            rng=rng,
        )


def draw(severity: str, r: float, rng: np.random.Generator, size: int = REFERENCE_SIZE) -> Classical:
    """Draws parameters uniformly from a severity, for faces of `size` px.

    `r` and the severity's sigma are stated at 512 px and scale with size / 512, so that a face shows the same
    damage at every size: the small image always measures 512 / r px (and r never falls below 1). Noise and JPEG
    act on that small image and need no scaling. Raises ValueError for an unknown severity.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"unknown severity {severity!r}; one of {', '.join(SEVERITIES)}")
    preset = SEVERITIES[severity]
    scale = size / REFERENCE_SIZE
    return Classical(
        r=max(1.0, r * scale),
        sigma=float(rng.uniform(*preset.sigma)) * scale,
        noise=NOISES[int(rng.integers(len(NOISES)))],
        delta=float(rng.uniform(*preset.delta)),
        quality=int(rng.integers(preset.quality[0], preset.quality[1] + 1)),
    )


def draw_any(rng: np.random.Generator, size: int = REFERENCE_SIZE) -> Classical:
    """Draws from all of Eq. 13's range, for training: any of SEVERITIES, r log-uniform over DOWNSAMPLING's span."""
    severity = list(SEVERITIES)[int(rng.integers(len(SEVERITIES)))]
    r = float(np.exp(rng.uniform(np.log(min(DOWNSAMPLING)), np.log(max(DOWNSAMPLING)))))
    return draw(severity, r, rng, size)


def classical(
    image: NDArray[np.uint8],
    *,
    r: float,
    sigma: float,
    noise: Noise,
    delta: float,
    quality: int,
    rng: np.random.Generator,
    keep_small: bool = False,
) -> NDArray[np.uint8]:
    """Eq. 13: blur, downsample, noise, JPEG; then bicubic back to the size of `image`.

    image: (H, W, 3) uint8 RGB. r: downsampling factor >= 1, need not be whole. sigma: blur in pixels of `image`.
    noise, delta: kind and standard deviation in grey levels (0-255); Poisson noise has it at mid-grey and grows
    with the square root of brightness. quality: JPEG quality 1-95. `rng` draws the noise and nothing else.
    keep_small: return the small image as it is, (round(H / r), round(W / r), 3), at least 1 px a side.
    Returns (H, W, 3) uint8. Raises ValueError for parameters out of range.
    """
    if r < 1 or delta < 0 or not 1 <= quality <= 95:
        raise ValueError(f"need r >= 1, delta >= 0 and quality in 1..95, got r={r}, delta={delta}, quality={quality}")
    height, width = image.shape[:2]
    small_size = (max(1, round(width / r)), max(1, round(height / r)))
    blurred = blur(image.astype(np.float32), sigma)
    small = resize(to_uint8(blurred), small_size)
    noisy = to_uint8(add_noise(small.astype(np.float32), noise, delta, rng))
    coded = jpeg(noisy, quality)
    return coded if keep_small else resize(coded, (width, height))
