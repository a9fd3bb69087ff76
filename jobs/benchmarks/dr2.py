"""``dr2e bench dr2``: what the engine and the automatic choice are worth, against a straightforward loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from jobs.benchmarks.faces import mixed_faces
from jobs.benchmarks.host import cpu
from jobs.benchmarks.published import GRID_N, GRID_TAU, grid_evaluations, published_loop
from jobs.options import as_json
from operators.dr2.checkpoints import load_prior
from operators.dr2.noise import FaceNoise
from operators.dr2.sampler import start_step
from operators.quality.niqe import Niqe
from operators.restoration import STEP, DegradationRemover, Fixed, unit_range


@dataclass(frozen=True)
class Timing:
    """way: what was run. faces, seconds: measured. evaluations: of the U-Net per face. faces_per_second: of the way.

    measured: False when faces_per_second follows from the measured seconds per evaluation and the evaluations a face
    would need.
    """

    way: str
    faces: int
    seconds: float
    evaluations: float
    faces_per_second: float
    measured: bool = True


@click.command("dr2")
@click.option("--faces", default=20, show_default=True, help="Faces to restore, of every severity and clean.")
@click.option("--n", default=4, show_default=True, help="N of the fixed pair.")
@click.option("--tau", default=150, show_default=True, help="tau of the fixed pair, of 1000.")
@click.option("--slots", default=16, show_default=True, help="Faces on their way at once.")
@click.option("--loop-faces", default=4, show_default=True, help="Faces the straightforward loop is timed on.")
@click.option("--threads", default=0, help="CPU threads (0: all).")
@click.option("--prior", "source", default="builtin", show_default=True, help="The prior, as for 'dr2e restore'.")
@as_json
def command(
    faces: int, n: int, tau: int, slots: int, loop_faces: int, threads: int, source: str, as_json: bool
) -> None:
    """Faces per second of DR2 in one process on the CPU: one loop per face, the engine, and the automatic choice.

    The loop visits every step, as published; the engine does so once too, and then takes the strides a run takes.
    All three use the same network, weights and faces, in float32, one after the other. The full grid is every N in 1,
    2, 4, 8, 16 with every tau in 0, 10 .. 400, a chain for each, as the published code would search it; it is
    projected from the loop's measured seconds per evaluation.
    """
    if threads:
        torch.set_num_threads(threads)
    timings = measure(mixed_faces(faces, load_prior(source).size), source, Fixed(n, tau), slots, loop_faces)
    if as_json:
        click.echo(json.dumps({"machine": machine(), "timings": [asdict(timing) for timing in timings]}, indent=1))
    else:
        click.echo(f"{machine()}\n\n{table(timings)}")


def measure(crops: Sequence[NDArray[np.uint8]], source: str, pair: Fixed, slots: int, loop_faces: int) -> list[Timing]:
    """Time the ways one after the other. loop_faces: how many of the faces the slow way gets."""
    prior, niqe = load_prior(source, precision="float32"), Niqe.load("builtin")
    identities = [(f"face-{i}", 0) for i in range(len(crops))]
    every_step = DegradationRemover(prior, niqe, batch=slots, select=pair, stride=STEP)
    fixed = DegradationRemover(prior, niqe, batch=slots, select=pair)
    automatic = DegradationRemover(prior, niqe, batch=slots)
    schedule, tau = fixed.schedule, fixed.schedule.step_of(pair.tau)
    omega = min(start_step(pair.n, tau, len(schedule)), fixed.last_step)

    def loop(count: int) -> None:
        for (key, index), face in zip(identities[:count], unit_range(crops[:count]), strict=True):
            published_loop(prior, schedule, face * 2 - 1, pair.n, omega, tau, FaceNoise(0, key, index))

    def spent(remover: DegradationRemover) -> Callable[[], float]:
        return lambda: float(np.mean([removal.evaluations for removal in remover.remove(crops, identities)]))

    loop(1)  # the first evaluation prepares kernels
    fixed.remove(crops[:slots], identities[:slots])
    count = min(loop_faces, len(crops))
    seconds, _ = timed(lambda: loop(count))
    per_face = omega - tau + 1
    searched = grid_evaluations(schedule, fixed.last_step)
    timings = [
        Timing(f"loop, N = {pair.n}, tau = {pair.tau}", count, seconds, per_face, count / seconds),
        Timing(
            f"loop, grid of {len(GRID_N)} N and {len(GRID_TAU)} tau",
            count, seconds, searched, count / seconds * per_face / searched, measured=False,
        ),
    ]  # fmt: skip
    ways = (
        (f"engine, N = {pair.n}, tau = {pair.tau}, every step", every_step),
        (f"engine, N = {pair.n}, tau = {pair.tau}", fixed),
        ("engine, automatic", automatic),
    )
    for way, remover in ways:
        seconds, evaluations = timed(spent(remover))
        timings.append(Timing(way, len(crops), seconds, evaluations, len(crops) / seconds))
    return timings


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the work gave back."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def machine(precision: str = "float32") -> str:
    """One line about what this runs on. precision: of the network."""
    return f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {precision}"


def table(timings: Sequence[Timing]) -> str:
    """Markdown; ratios are to the loop at one pair and to the loop over the grid."""
    pair, grid = timings[0].faces_per_second, timings[1].faces_per_second
    lines = [
        "| way | faces timed | evaluations per face | faces/s | to the loop at one pair | to the loop over the grid |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for timing in timings:
        rate = f"{timing.faces_per_second:.3g}{'' if timing.measured else ' (projected)'}"
        lines.append(
            f"| {timing.way} | {timing.faces} | {timing.evaluations:.1f} | {rate} "
            f"| {timing.faces_per_second / pair:.2f} | {timing.faces_per_second / grid:.0f} |"
        )
    return "\n".join(lines)
