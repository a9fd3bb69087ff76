"""``dr2e bench updates``: what other updates and strides of the sampler are worth per evaluation of the network."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from jobs.benchmarks.faces import with_truth
from jobs.options import as_json
from operators.dr2.checkpoints import load_prior
from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior, diffuse
from operators.dr2.sampler import start_step, visited
from operators.dr2.schedule import Schedule
from operators.restoration import STEP, unit_range

Pixels = NDArray[np.uint8]

UPDATES = ("ddpm", "ddim", "second-order")
"""ddpm: a draw of q(x_j | x_i, x0_hat), what the engine does. ddim: the same without fresh noise (Song et al. 2021,
eta = 0). second-order: ddim from x0_hat extrapolated by its last change (Lu et al. 2022, DPM-Solver++ 2M)."""

STRIDES = (10, 40, 80, 200)
PAIRS = ((2, 40), (4, 160), (8, 280))
"""(N, tau) for light, middling and heavy damage; strides and taus in timesteps of 1000."""


@dataclass(frozen=True)
class Quality:
    """One way at one pair: evaluations per face, and the mean PSNR (dB) and SSIM of x0_hat to the undegraded faces."""

    n: int
    tau: int
    update: str
    stride: int
    evaluations: int
    psnr: float
    ssim: float


@click.command("updates")
@click.option("--faces", default=20, show_default=True, help="Faces, of every severity; clean ones are left out.")
@click.option("--threads", default=0, help="CPU threads (0: all).")
@click.option("--prior", "source", default="builtin", show_default=True, help="The prior, as for 'dr2e restore'.")
@as_json
def command(faces: int, threads: int, source: str, as_json: bool) -> None:
    """Quality per evaluation of DR2's sampler: three updates between kept steps, at four strides, for three (N, tau).

    After each update the low frequencies are replaced as always. Runs do the first update, at the stride
    restore.stride.
    """
    if threads:
        torch.set_num_threads(threads)
    prior = load_prior(source, precision="float32")
    degraded = [(face, truth) for face, truth in with_truth(faces, prior.size) if face is not truth]
    found = [measure(prior, degraded, n, tau, stride, update)
             for n, tau in PAIRS for update in UPDATES for stride in STRIDES]  # fmt: skip
    click.echo(json.dumps([asdict(one) for one in found], indent=1) if as_json else table(found))


def measure(
    prior: Prior, faces: Sequence[tuple[Pixels, Pixels]], n: int, tau: int, stride: int, update: str
) -> Quality:
    """One way over all faces, each beside its truth."""
    schedule = prior.schedule.respaced(len(prior.schedule) // STEP)
    last_step = prior.spec.max_timestep // STEP - 1
    omega = min(start_step(n, tau // STEP, len(schedule)), last_step)
    steps = visited(omega, [tau // STEP], stride // STEP)
    scores = []
    for number, (face, truth) in enumerate(faces):
        y = unit_range([face])[0] * 2 - 1
        x0 = walk(prior, schedule, y, n, steps, FaceNoise(0, f"face-{number}", 0), update)
        image = ((x0 + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        error = float(np.mean((image.astype(np.float64) - truth) ** 2))
        ssim = structural_similarity(image, truth, channel_axis=2, gaussian_weights=True, use_sample_covariance=False)
        scores.append((10 * math.log10(255**2 / error), ssim))
    psnr, ssim = np.mean(scores, axis=0)
    return Quality(n, tau, update, stride, len(steps), float(psnr), float(ssim))


@torch.inference_mode()
def walk(
    prior: Prior, schedule: Schedule, face: Tensor, n: int, steps: Sequence[int], noise: FaceNoise, update: str
) -> Tensor:
    """x0_hat at the last of `steps`, (3, S, S) float32 in [-1, 1] like `face`, y. update: of UPDATES."""
    shape, matrix, y = tuple(face.shape), low_pass_matrix(prior.size, n), face[None]
    alpha_bar = schedule.alpha_bar

    def draw(purpose: str, step: int) -> Tensor:
        return noise.draw(purpose, int(schedule.timesteps[step]), shape)[None]

    x, before = diffuse(y, draw("start", steps[0]), alpha_bar[steps[0]]), None
    for place, step in enumerate(steps):
        x0 = prior.estimate(x, torch.tensor([int(schedule.timesteps[step])])).x0.clamp(-1, 1)
        if place == len(steps) - 1:
            break
        to = steps[place + 1]
        now, then = float(alpha_bar[step]), float(alpha_bar[to])
        guess = x0
        if update == "second-order" and before is not None:
            ratio = _log_snr(now) - _log_snr(float(alpha_bar[steps[place - 1]]))
            ratio /= _log_snr(then) - _log_snr(now)
            guess = (x0 + (x0 - before) / (2 * ratio)).clamp(-1, 1)
        variance = (1 - then) / (1 - now) * (1 - now / then) if update == "ddpm" else 0.0
        of_x = math.sqrt((1 - then - variance) / (1 - now))
        x = (math.sqrt(then) - of_x * math.sqrt(now)) * guess + of_x * x + math.sqrt(variance) * draw("reverse", step)
        y_then = diffuse(y, draw("refine", to), alpha_bar[to])
        x, before = x + low_pass(y_then - x, matrix), x0
    return x0[0]


def _log_snr(alpha_bar: float) -> float:
    """Half the logarithm of the signal-to-noise ratio, in whose terms DPM-Solver extrapolates."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def table(found: Sequence[Quality]) -> str:
    """Markdown: a line per pair and update, a column per stride."""
    lines = [
        "| N | tau | update | " + " | ".join(f"stride {stride}" for stride in STRIDES) + " |",
        "| --- | --- | --- |" + " --- |" * len(STRIDES),
    ]
    for n, tau in PAIRS:
        for update in UPDATES:
            cells = [one for one in found if (one.n, one.tau, one.update) == (n, tau, update)]
            shown = " | ".join(f"{one.evaluations}: {one.psnr:.2f} dB, {one.ssim:.3f}" for one in cells)
            lines.append(f"| {n} | {tau} | {update} | {shown} |")
    return "\n".join(["Evaluations per face: PSNR, SSIM of x0_hat.", "", *lines])
