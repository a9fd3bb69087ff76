"""``dr2e bench enhancers``: seconds and memory per face of enhancers, side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch

from jobs.benchmarks.faces import mixed_faces
from jobs.benchmarks.host import cpu, load
from jobs.options import as_json
from pipeline.config import load as load_config
from pipeline.loaders import load_enhancer
from pipeline.models import describe


@dataclass(frozen=True)
class Cost:
    """Of one enhancer. size: px a side of the faces it returns. seconds: per face, the median of all. memory: bytes of
    the GPU at most; None on a CPU, where the descriptor's figure is what there is."""

    name: str
    architecture: str
    size: int
    seconds: float
    slowest: float
    memory: int | None
    described: int


@click.command("enhancers")
@click.argument("sources", nargs=-1, required=True, metavar="ENHANCER...")
@click.option("--faces", default=3, show_default=True, help="Faces that are timed, after one for practice.")
@click.option("--threads", default=1, show_default=True, help="CPU threads (0: all).")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="As of a run: enhance.fidelity=1.")
@as_json
def command(
    sources: tuple[str, ...], faces: int, threads: int, device: str, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Seconds per face of each ENHANCER: 'builtin', 'none', a weights file, or a model of the store.

    One face at a time on a CPU; on a GPU as many as go through the network together.
    """
    if threads:
        torch.set_num_threads(threads)
    costs = [measure(source, faces, device, assignments) for source in sources]
    if as_json:
        click.echo(json.dumps({"machine": cpu(), "load": load(), "costs": [asdict(cost) for cost in costs]}, indent=1))
    else:
        click.echo(f"{cpu()}, {torch.get_num_threads()} torch threads, {device}; load {load()}\n\n{table(costs)}")


def measure(source: str, faces: int, device: str, assignments: Sequence[str]) -> Cost:
    """Load, practise, and time faces one call each. Raises ConfigError, ModelError."""
    fixed = {"restore.n": 1, "restore.tau": 0}  # nothing is chosen here, so no policy need fit
    config = load_config(None, assignments, {"input": "-", "output": "-", "enhance.enhancer": source, **fixed})
    describe(config)
    enhancer = load_enhancer(config, device)
    crops = mixed_faces(faces + 1, enhancer.input_size)
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for crop in crops:
        batch = np.repeat(crop[None], 8, axis=0) if on_gpu else crop[None]
        began = time.perf_counter()
        enhancer.enhance(batch)
        seconds.append((time.perf_counter() - began) / len(batch))
    return Cost(
        name=Path(source).name,
        architecture=enhancer.descriptor.architecture or enhancer.name,
        size=enhancer.output_size,
        seconds=float(np.median(seconds[1:])),
        slowest=max(seconds[1:]),
        memory=torch.cuda.max_memory_allocated() if on_gpu else None,
        described=enhancer.descriptor.memory,
    )


def table(costs: Sequence[Cost]) -> str:
    """Markdown."""
    lines = ["| | architecture | px | seconds per face | slowest | MB per face, described |", "| --- " * 6 + "|"]
    lines += [
        f"| {cost.name} | {cost.architecture} | {cost.size} | {cost.seconds:.3g} | {cost.slowest:.3g} "
        f"| {cost.described / 1e6:,.0f} |"
        for cost in costs
    ]
    return "\n".join(lines)
