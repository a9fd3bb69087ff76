"""Command-line options that all training jobs share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jobs.options import parse_storage, storage_options
from operators.training.loop import TrainingPlan

Command = Callable[..., None]

data_option = click.option(
    "--data",
    multiple=True,
    required=True,
    help="Shards of labelled photos (folder, glob, brace range; local or s3://). Repeatable. "
    "Each sample holds a photo and a JSON with landmarks5.",
)


def training_options(*, steps: int, lr: float, batch: int) -> Callable[[Command], Command]:
    """Add --out, --steps, --minutes and the like; the command receives ``plan``, ``batch`` and ``storage_options``."""

    def decorate(function: Command) -> Command:
        @click.option(
            "--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoint and weights."
        )
        @click.option("--steps", default=steps, show_default=True, help="Optimiser steps in all.")
        @click.option("--minutes", default=0.0, help="Stop this session after so many minutes; run again to go on.")
        @click.option("--lr", default=lr, show_default=True, help="Peak learning rate of AdamW.")
        @click.option("--batch", default=batch, show_default=True, help="Faces or photos per step.")
        @click.option("--ema", default=300.0, show_default=True, help="Half-life of the weights' average, in steps.")
        @click.option("--seed", default=0, show_default=True, help="Everything random follows from it.")
        @click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
        @click.option("--bf16/--no-bf16", default=False, help="bfloat16 autocast (GPU, or a CPU with AMX).")
        @click.option("--threads", default=0, help="CPU threads (0: all).")
        @storage_options
        @functools.wraps(function)
        def wrapped(
            out: Path,
            steps: int,
            minutes: float,
            lr: float,
            batch: int,
            ema: float,
            seed: int,
            device: str,
            bf16: bool,
            threads: int,
            storage_options: str | None,
            **rest: Any,
        ) -> None:
            import torch

            if threads:
                torch.set_num_threads(threads)
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            plan = TrainingPlan(
                out=out, steps=steps, minutes=minutes, lr=lr, ema=ema, seed=seed, device=device, bf16=bf16
            )
            function(plan=plan, batch=batch, storage_options=parse_storage(storage_options), **rest)

        return wrapped

    return decorate
