"""The prior: a face DDPM, that is a U-Net, its noise schedule, and what its output means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from operators.dr2.norms import with_channels_last_norms
from operators.dr2.recorded import Recorded, compiled, to_device
from operators.dr2.schedule import Schedule
from operators.dr2.unet import UNet2DModel

Prediction = Literal["epsilon", "v_prediction", "sample"]
Variance = Literal["fixed_small", "fixed_large", "learned_range"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class PriorSpec:
    """What surrounds the U-Net.

    Attributes:
        size: face side in pixels.
        prediction: what the first three output channels estimate: the noise, v (Salimans and Ho 2022,
            arXiv 2202.00512), or x_0.
        variance: fixed to the posterior's ("small") or to beta ("large"), or three more output channels
            interpolating between the two ("learned_range", Nichol and Dhariwal 2021, Eq. 15).
        patch: side of the pixel blocks folded into channels before the U-Net; 1 for published models.
        max_timestep: the largest timestep the network was trained at, exclusive.
    """

    size: int
    prediction: Prediction = "epsilon"
    variance: Variance = "fixed_small"
    patch: int = 1
    max_timestep: int = 1000


class Estimate(NamedTuple):
    """x0: (B, 3, S, S) float32, not clipped. fraction: learned variance in [-1, 1] of the same shape, or None."""

    x0: Tensor
    fraction: Tensor | None


class Prior:
    """A face DDPM ready to denoise.

    Attributes:
        network: diffusers U-Net in evaluation mode.
        schedule: the full noise schedule it was trained with.
        name, licence, fingerprint: recorded in commit records; the fingerprint is the SHA-256 of the weights file.
    """

    def __init__(
        self,
        network: UNet2DModel,
        spec: PriorSpec,
        schedule: Schedule,
        *,
        name: str,
        licence: str,
        fingerprint: str,
        device: str | torch.device = "cpu",
        precision: Precision = "auto",
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        if self.device.type == "cuda":
            with_channels_last_norms(self.network)
        self.spec, self.schedule = spec, schedule
        self.name, self.licence, self.fingerprint = name, licence, fingerprint
        self.bfloat16 = precision == "bfloat16" or (precision == "auto" and _bfloat16_pays(self.device))
        self._alpha_bar = torch.from_numpy(schedule.alpha_bar).to(self.device)
        self._recorded: dict[int, Recorded] = {}

    @property
    def size(self) -> int:
        return self.spec.size

    def check(self, timestep: int) -> None:
        """Raises ValueError for a timestep the network was never trained at."""
        if timestep >= self.spec.max_timestep:
            raise ValueError(
                f"prior {self.name!r} was trained below timestep {self.spec.max_timestep}, asked for {timestep}; "
                "use a smaller tau"
            )

    @torch.inference_mode()
    def warm_up(self, batch: int) -> None:
        """Make batches of this size as fast as the device can. A GPU compiles for a minute, once per machine and size;
        a CPU has nothing to do."""
        if self.device.type != "cuda" or batch in self._recorded:
            return
        x = torch.zeros((batch, 3, self.size, self.size), device=self.device)
        timesteps = torch.zeros(batch, dtype=torch.int64, device=self.device)
        self._recorded[batch] = Recorded(compiled(self._run), x, timesteps)

    @torch.inference_mode()
    def estimate(self, x: Tensor, timesteps: Tensor) -> Estimate:
        """Estimate x_0 from x_t. Nothing waits for the device. Calls of several threads must not overlap.

        x: (B, 3, S, S) float32. timesteps: (B,) int64 original timesteps, one per image, on the CPU.
        Raises ValueError for a timestep the network was never trained at.
        """
        self.check(int(timesteps.max()))
        timesteps = to_device(timesteps, self.device)
        output = self._recorded.get(len(x), self._run)(x, timesteps)
        alpha_bar = self._alpha_bar[timesteps].float()[:, None, None, None]
        fraction = None
        if self.spec.variance == "learned_range":
            output, fraction = output.chunk(2, dim=1)
        return Estimate(to_x0(x, output, alpha_bar, self.spec.prediction), fraction)

    def _run(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """The network's output, float32; timesteps on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return forward(self.network, x, timesteps, self.spec.patch).float()


def forward(network: torch.nn.Module, x: Tensor, timesteps: Tensor, patch: int) -> Tensor:
    """Run the U-Net on (B, 3, S, S), with ``patch`` x ``patch`` pixel blocks as channels."""
    folded = F.pixel_unshuffle(x, patch) if patch > 1 else x
    output: Tensor = network(folded.contiguous(memory_format=torch.channels_last), timesteps).sample
    return F.pixel_shuffle(output, patch) if patch > 1 else output


def to_x0(x: Tensor, output: Tensor, alpha_bar: Tensor, prediction: Prediction) -> Tensor:
    """Turn the network's output into an estimate of x_0; alpha_bar broadcasts against x."""
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if prediction == "epsilon":
        return (x - noise * output) / signal
    if prediction == "v_prediction":
        return signal * x - noise * output
    return output


def to_target(x0: Tensor, noise: Tensor, alpha_bar: Tensor, prediction: Prediction) -> Tensor:
    """What the network should output for x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise."""
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0
    return x0


def diffuse(x0: Tensor, noise: Tensor, alpha_bar: Tensor | float | np.float64) -> Tensor:
    """q(x_t | x_0): ``sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise``."""
    level = torch.as_tensor(alpha_bar, dtype=x0.dtype, device=x0.device)
    return level.sqrt() * x0 + (1 - level).sqrt() * noise


def _bfloat16_pays(device: torch.device) -> bool:
    """bfloat16 pays on GPUs from Ampere on. CPUs that have it would be faster too, by half, but round by their number
    of threads and by the batch, by several grey levels in bfloat16: a face must not depend on either."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
