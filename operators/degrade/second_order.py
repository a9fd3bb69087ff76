"""A second-order degradation: blur, resize, noise, JPEG, twice, as photographs suffer that are copied and copied again.

The idea and the ranges are Real-ESRGAN's (arXiv 2107.10833, section 3 and appendix), which DiffBIR (arXiv 2308.15070)
took over; its sinc filters and its generalised and plateau-shaped kernels are left out. Lengths are pixels of the image
that a pass gets, not of a 512 px face: what is copied at random sizes has no scale of its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from operators.degrade.steps import RESAMPLINGS, Noise, Resampling, add_noise, jpeg, resize, to_uint8


@dataclass(frozen=True)
class Ranges:
    """What one pass draws from, uniformly.

    blur: probability that it blurs. sigma: pixels, each axis of its own when anisotropic (half of all kernels).
    shrink, enlarge: probabilities of either; else the size stays. scale: (smallest, largest) factor.
    gaussian: standard deviation in grey levels. poisson: of Poisson noise at mid-grey. grey: probability that noise is
    the same in all channels. quality: JPEG, 1-95.
    """

    blur: float
    sigma: tuple[float, float]
    shrink: float
    enlarge: float
    scale: tuple[float, float]
    gaussian: tuple[float, float]
    poisson: tuple[float, float]
    grey: float = 0.4
    quality: tuple[int, int] = (30, 95)


# Real-ESRGAN gives Poisson noise by a factor s on image * 255 photons: its deviation at mid-grey is 11.3 s levels.
FIRST = Ranges(1.0, (0.2, 3.0), shrink=0.7, enlarge=0.2, scale=(0.15, 1.5), gaussian=(1, 30), poisson=(0.6, 34))
SECOND = Ranges(0.8, (0.2, 1.5), shrink=0.4, enlarge=0.3, scale=(0.3, 1.2), gaussian=(1, 25), poisson=(0.6, 28))


@dataclass(frozen=True)
class Pass:
    """One blur, resize, noise, JPEG.

    sigma: along the kernel's axes, pixels; (0, 0) for none. angle: of the first axis, radians from the rows' direction.
    scale: factor of width and height. delta: deviation of the noise in grey levels. grey: the same in all channels.
    """

    sigma: tuple[float, float]
    angle: float
    scale: float
    resampling: Resampling
    noise: Noise
    delta: float
    grey: bool
    quality: int

    def apply(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 -> (about H * scale, W * scale, 3) uint8; `rng` draws the noise and nothing else."""
        height, width = image.shape[:2]
        blurred = blur_anisotropic(image.astype(np.float32), self.sigma, self.angle)
        size = (max(1, round(width * self.scale)), max(1, round(height * self.scale)))
        resized = resize(to_uint8(blurred), size, self.resampling)
        noisy = add_noise(resized.astype(np.float32), self.noise, self.delta, rng, grey=self.grey)
        return jpeg(to_uint8(noisy), self.quality)


@dataclass(frozen=True)
class SecondOrder:
    """One draw of the parameters of both passes; back: how the result is brought to the size of the input."""

    first: Pass
    second: Pass
    back: Resampling

    def apply(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Degrades `image` (H, W, 3) uint8; same size."""
        small = self.second.apply(self.first.apply(image, rng), rng)
        return resize(small, (image.shape[1], image.shape[0]), self.back)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` makes the same draw of them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SecondOrder:
        """The inverse of `to_json`. Raises KeyError or TypeError for anything else."""
        first, second = (Pass(**{**data[name], "sigma": tuple(data[name]["sigma"])}) for name in ("first", "second"))
        return cls(first, second, data["back"])


def draw_second_order(rng: np.random.Generator) -> SecondOrder:
    """Draws both passes from FIRST and SECOND."""
    return SecondOrder(_draw(FIRST, rng), _draw(SECOND, rng), _one_of(RESAMPLINGS, rng))


def blur_anisotropic(
    image: NDArray[np.floating], sigma: tuple[float, float], angle: float = 0.0
) -> NDArray[np.floating]:
    """image * Gaussian with mirrored borders. image: (H, W, C) float; sigma: pixels along both axes of the kernel, at
    most 20; angle: of the first axis, radians from the rows' direction. Raises ValueError for sigma out of range."""
    if min(sigma) < 0 or max(sigma) > 20:
        raise ValueError(f"sigma must be within 0 and 20, got {sigma}")
    if max(sigma) == 0:
        return image
    blurred: NDArray[np.floating] = ndimage.correlate(image, _kernel(sigma, angle)[..., None], mode="reflect")
    return blurred


def _kernel(sigma: tuple[float, float], angle: float) -> NDArray[np.float64]:
    """(2 k + 1, 2 k + 1) float64, sum 1, k = ceil(3 max sigma): samples of the Gaussian at whole pixels."""
    radius = int(np.ceil(3 * max(sigma)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    widths = np.maximum(sigma, 1e-3)  # of width nothing: a line
    weights = np.exp(-0.5 * ((along / widths[0]) ** 2 + (across / widths[1]) ** 2))
    kernel: NDArray[np.float64] = weights / weights.sum()
    return kernel


def _draw(ranges: Ranges, rng: np.random.Generator) -> Pass:
    return Pass(
        *_draw_kernel(ranges, rng),
        scale=_draw_scale(ranges, rng),
        resampling=_one_of(RESAMPLINGS, rng),
        **_draw_noise(ranges, rng),
        quality=int(rng.integers(ranges.quality[0], ranges.quality[1] + 1)),
    )


def _draw_kernel(ranges: Ranges, rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    blurs, is_anisotropic = rng.random() < ranges.blur, rng.random() < 0.5
    first, second = rng.uniform(*ranges.sigma, size=2).tolist()
    angle = float(rng.uniform(-np.pi, np.pi))
    if not blurs:
        return (0.0, 0.0), 0.0
    return ((first, second), angle) if is_anisotropic else ((first, first), 0.0)


def _draw_scale(ranges: Ranges, rng: np.random.Generator) -> float:
    which, shrunk, enlarged = rng.random(), rng.uniform(ranges.scale[0], 1), rng.uniform(1, ranges.scale[1])
    if which < ranges.shrink:
        return float(shrunk)
    return float(enlarged) if which < ranges.shrink + ranges.enlarge else 1.0


def _draw_noise(ranges: Ranges, rng: np.random.Generator) -> dict[str, Any]:
    is_gaussian, grey = rng.random() < 0.5, rng.random() < ranges.grey
    delta = rng.uniform(*(ranges.gaussian if is_gaussian else ranges.poisson))
    return {"noise": "gaussian" if is_gaussian else "poisson", "delta": float(delta), "grey": bool(grey)}


def _one_of(choices: tuple[Resampling, ...], rng: np.random.Generator) -> Resampling:
    return choices[int(rng.integers(len(choices)))]
