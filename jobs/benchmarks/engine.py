"""``dr2e bench engine``: what the engine makes of the machine, by faces per evaluation of the network."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import click
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from jobs.benchmarks.dr2 import machine
from jobs.options import as_json
from operators.dr2.checkpoints import load_prior
from operators.dr2.engine import Engine, Trajectory
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Precision, Prior, PriorSpec
from operators.dr2.schedule import Schedule
from operators.dr2.unet import UNet2DModel

PUBLISHED = "published"
"""The name of the paper's U-Net with random weights, which cost what trained ones do."""

_STEPS, _N = tuple(range(39, -1, -1)), 4


@dataclass(frozen=True)
class Rate:
    """The engine at one batch size.

    slots: faces on their way at once. evaluations_per_second: faces the network saw per second, everything about them
    included. flops_per_second: of the network alone, as PyTorch counts them. share: of the peak. memory: bytes of the
    GPU at most; None on a CPU.
    """

    batch: int
    slots: int
    evaluations_per_second: float
    flops_per_second: float
    share: float
    memory: int | None


class _Walk:
    """One face through one trajectory."""

    def __init__(self, face: Tensor, number: int, steps: tuple[int, ...] = _STEPS) -> None:
        noise = FaceNoise(0, f"face-{number}", 0)
        self._ahead = [Trajectory(face, noise, _N, steps, frozenset([steps[-1]]))]

    def next(self) -> Trajectory | None:
        return self._ahead.pop() if self._ahead else None

    def take(self, step: int, x0: Tensor) -> bool:
        return True


@click.command("engine")
@click.option(
    "--prior",
    "source",
    default="builtin",
    show_default=True,
    help=f"As for 'dr2e restore', or '{PUBLISHED}': the paper's U-Net of 256 px, random weights.",
)
@click.option("--batches", default="1,4,16", show_default=True, help="Faces per evaluation of the network.")
@click.option("--faces", default=2, show_default=True, help="Times each batch size that many faces walk 40 steps.")
@click.option("--slots", default=0, help="Slots per face of a batch (0: 2 on a GPU, whose work overlaps then, else 1).")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True)
@click.option("--threads", default=0, help="CPU threads (0: all).")
@as_json
def command(
    source: str, batches: str, faces: int, slots: int, device: str, precision: Precision, threads: int, as_json: bool
) -> None:
    """Evaluations per second of the engine, the FLOP/s they come to, and their share of the machine's peak.

    The peak is that of a large matrix product in the same precision, measured here.
    """
    if threads:
        torch.set_num_threads(threads)
    try:
        sizes = [int(size) for size in batches.split(",")]
        if min(sizes) < 1:
            raise ValueError("no face")
    except ValueError:
        raise click.BadParameter(
            "whole numbers above 0 with commas between, such as 1,4,16", param_hint="--batches"
        ) from None
    prior = (
        published(device, precision) if source == PUBLISHED else load_prior(source, device=device, precision=precision)
    )
    computed_in: Literal["float32", "bfloat16"] = "bfloat16" if prior.bfloat16 else "float32"
    peak = matrix_peak(prior.device, computed_in)
    cost = flops(prior)
    per_batch = slots or (2 if prior.device.type == "cuda" else 1)
    rates = [measure(prior, batch, faces, cost, peak, per_batch) for batch in sizes]
    where = f"{torch.cuda.get_device_name()}, {computed_in}" if prior.device.type == "cuda" else machine(computed_in)
    if as_json:
        answer = {"machine": where, "peak": peak, "flops": cost, "rates": [asdict(rate) for rate in rates]}
        click.echo(json.dumps(answer, indent=1))
    else:
        click.echo(f"{where}\n{prior.name}, {prior.size} px\n\n{table(rates, cost, peak)}")


def published(device: str, precision: Precision) -> Prior:
    """The U-Net of the published checkpoints at 256 px, with seeded random weights."""
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=256, in_channels=3, out_channels=6, center_input_sample=False,
        time_embedding_type="positional", freq_shift=0, flip_sin_to_cos=True,
        down_block_types=("ResnetDownsampleBlock2D",) * 4 + ("AttnDownBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D") + ("ResnetUpsampleBlock2D",) * 4,
        block_out_channels=(128, 128, 256, 256, 512, 512), layers_per_block=1, mid_block_scale_factor=1,
        downsample_type="resnet", upsample_type="resnet", dropout=0.0, act_fn="silu", attention_head_dim=64,
        norm_num_groups=32, attn_norm_num_groups=32, norm_eps=1e-5, resnet_time_scale_shift="scale_shift",
        add_attention=True,
    )  # fmt: skip
    return Prior(
        network, PriorSpec(256, variance="learned_range"), Schedule.linear(), name="the paper's U-Net, random weights",
        licence="", fingerprint="", device=device, precision=precision,
    )  # fmt: skip


def matrix_peak(device: torch.device, precision: Literal["float32", "bfloat16"]) -> float:
    """FLOP/s of the fastest of some square matrix products."""
    side = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(side, side, device=device).to(getattr(torch, precision))
    best = float("inf")
    for _ in range(6):
        started = _now(device)
        matrix @ matrix
        best = min(best, _now(device) - started)
    return 2 * side**3 / best


def flops(prior: Prior) -> int:
    """FLOP of one evaluation for one face, a multiply and an add each."""
    x = torch.zeros(1, 3, prior.size, prior.size, device=prior.device)
    with FlopCounterMode(display=False) as counter:
        prior.estimate(x, torch.zeros(1, dtype=torch.int64))
    return int(counter.get_total_flops())


def measure(prior: Prior, batch: int, faces: int, cost: int, peak: float, per_batch: int = 1) -> Rate:
    """`faces` times `batch` faces walk 40 steps, in `per_batch` slots for each face of a batch; faces that walk two are
    not timed.

    cost: FLOP of an evaluation. peak: FLOP/s.
    """
    schedule, slots = prior.schedule.respaced(100), batch * per_batch
    engine = Engine(prior, schedule, slots=slots, batch=batch)
    face = torch.zeros(3, prior.size, prior.size)
    engine.run([_Walk(face, number, _STEPS[-2:]) for number in range(slots)])
    if prior.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(prior.device)
    before, started = engine.evaluations, _now(prior.device)
    engine.run([_Walk(face, number) for number in range(batch * faces)])
    rate = (engine.evaluations - before) / (_now(prior.device) - started)
    memory = torch.cuda.max_memory_allocated(prior.device) if prior.device.type == "cuda" else None
    return Rate(batch, slots, rate, rate * cost, rate * cost / peak, memory)


def _now(device: torch.device) -> float:
    """Seconds, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def table(rates: Sequence[Rate], cost: int, peak: float) -> str:
    """Markdown."""
    lines = [
        f"One evaluation: {cost / 1e9:.1f} GFLOP. Peak of a matrix product: {peak / 1e9:.0f} GFLOP/s.",
        "",
        "| batch | slots | evaluations/s | GFLOP/s | of the peak | memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for rate in rates:
        memory = "–" if rate.memory is None else f"{rate.memory / 2**30:.1f} GiB"
        lines.append(
            f"| {rate.batch} | {rate.slots} | {rate.evaluations_per_second:.3g} | {rate.flops_per_second / 1e9:.3g} "
            f"| {rate.share:.0%} | {memory} |"
        )
    return "\n".join(lines)
