"""``dr2e curate``: a collection's own restored faces, the best of them, become what the enhancer learns from."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from jobs.curation.begin import WEIGHTS, begin, check
from jobs.curation.kept import keep
from jobs.evaluate import evaluate
from jobs.options import as_json, config_from, events, metrics_port, run_options
from jobs.pairs import pairs
from jobs.restore import interruptible
from pipeline.config import Config, Keep
from pipeline.events.lines import LineByLine, events_to, is_json_log

KEPT, PAIRS = "kept", "pairs"
SETTINGS = "severe-4,severe-8,severe-16"


@click.command("curate")
@run_options
@click.option(
    "--faces",
    multiple=True,
    required=True,
    metavar="URL",
    help="Shards of good faces: nine tenths are learned from as well, on the held-out tenth is measured. Repeatable.",
)
@click.option(
    "--training",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder to train in, on a disk that all nodes see; else OUTPUT/training.",
)
@click.option("--recipe", default="dr2", show_default=True, help="Of the pairs, as in 'dr2e pairs'.")
@click.option("--pairs-per-face", default=4, show_default=True, help="As in 'dr2e pairs'.")
@click.option("--steps", type=click.IntRange(1), default=1500, show_default=True, help="Steps of training.")
@click.option("--lr", default=2e-4, show_default=True, help="Peak learning rate.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Pairs per step.")
@click.option("--threads", default=0, help="CPU threads of the training (0: all).")
@click.option("--bf16/--no-bf16", default=False, help="Train in bfloat16 (GPU, or a CPU with AMX).")
@click.option("--settings", default=SETTINGS, show_default=True, help="What is measured, as in 'dr2e evaluate'.")
@click.option("--measure-faces", type=click.IntRange(1), help="Held-out faces to measure on, at most; else all.")
@click.option("--address", metavar="ADDRESS", help="A Ray cluster; else RAY_ADDRESS; else Ray starts on this machine.")
@events
@metrics_port
@as_json
@click.pass_context
def command(
    context: click.Context,
    /,
    faces: tuple[str, ...],
    training: Path | None,
    recipe: str,
    pairs_per_face: int,
    steps: int,
    lr: float,
    batch: int,
    threads: int,
    bf16: bool,
    settings: str,
    measure_faces: int | None,
    address: str | None,
    events: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Learn from a collection's own restored faces: one round, and its figures.

    Restores the photographs of --input; keeps the faces that became better by NIQE, that kept their coarse structure,
    and in which the detector finds the same landmarks (--set keep.gain=0.5, keep.niqe, keep.fidelity, keep.moved);
    makes training pairs of these and of --faces; trains the enhancer on them, from the weights of --enhancer on; and
    measures both on the held-out tenth of --faces. Whether the round was worth it is in OUTPUT/round.md, face by face,
    whichever way it fell. The next round starts from this one's OUTPUT/training/enhancer.safetensors.

    \b
      dr2e curate --input scans/ --faces faces/ --output round1
      dr2e curate --input scans/ --faces faces/ --output round2 --enhancer round1/training/enhancer.safetensors

    Each step resumes: run the same command again. OUTPUT/kept and OUTPUT/pairs are outputs like others, with a
    manifest, a quarantine with the reasons, 'dr2e status' and 'dr2e verify'.

    Exit codes: 0 complete, 1 failed, 2 usage or configuration, 128+n signal n.
    """
    from jobs.curation.page import AFTER, BEFORE, publish  # torch

    config = config_from(**options)
    plan = {"steps": steps, "lr": lr, "batch": batch, "bf16": bf16}
    begun = check(config, faces, settings, training, recipe, pairs_per_face)
    place, enhancer = begun.place, begun.training / WEIGHTS
    said = LineByLine() if is_json_log() else sys.stderr  # what the steps say; the answer alone goes to stdout
    with interruptible(), events_to(events), redirect_stdout(said):
        begin(begun, config, {**plan, "faces": faces, "settings": settings, "measure_faces": measure_faces})
        click.echo("1 of 4: restoring, and keeping what became better")
        keeping = {"keep": config.keep or Keep(), "output": f"{place.url}/{KEPT}"}
        found = keep(config.model_copy(update=keeping), address)
        click.echo(f"2 of 4: pairs of {found.faces:,} kept faces and of {', '.join(faces)}")
        sources = (found.shards, *faces)
        pairing = {"keep": None, "pairs": begun.pairs, "input": sources, "output": f"{place.url}/{PAIRS}"}
        made = pairs(config.model_copy(update=pairing), address=address)
        click.echo(f"3 of 4: training on {made.pairs['train']:,} pairs, from {config.enhance.enhancer} on")
        train(context, config, made.output, begun.training, size=begun.size, threads=threads, **plan)
        click.echo("4 of 4: measuring before and after")
        for name, source in ((BEFORE, config.enhance.enhancer), (AFTER, str(enhancer))):
            model = config.enhance.model_copy(update={"enhancer": source})
            measuring = {"keep": None, "input": faces, "output": f"{place.url}/{name}", "enhance": model}
            measured = config.model_copy(update=measuring)
            evaluate(measured, settings=settings, held_out=True, faces=measure_faces, address=address)
        finished = publish(place, found, made.pairs, enhancer)
    click.echo(json.dumps(finished.document, indent=1) if as_json else finished.markdown)


def train(context: click.Context, config: Config, url: str, folder: Path, **plan: Any) -> None:
    """`dr2e train enhancer` on the pairs at `url`."""
    from jobs.train_enhancer import command as train_enhancer

    options = json.dumps(dict(config.storage.output)) if config.storage.output else None
    begin = None if config.enhance.enhancer == "none" else config.enhance.enhancer
    context.invoke(
        train_enhancer, pairs_url=url, out=folder, begin=begin, seed=config.seed, storage_options=options, **plan
    )
