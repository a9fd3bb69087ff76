"""``dr2e curate``: a collection's own restored faces, the best of them, become what the enhancer learns from."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from jobs.evaluate import evaluate
from jobs.images import image_config, names_images
from jobs.options import as_json, config_from, run_options
from jobs.pairs import pairs
from jobs.restore import completing, interruptible
from pipeline.config import Config, ConfigError, Keep, Pairs
from pipeline.driver import execute, prepare
from pipeline.evaluation.sample import choose
from pipeline.inputs import resolve_inputs
from pipeline.keeping.members import IDENTITY
from pipeline.ledger import SHARDS
from pipeline.models import describe
from pipeline.output import Output
from pipeline.pairs.members import identity
from pipeline.storage import Location

KEPT, PAIRS, TRAINING, BEFORE, AFTER = "kept", "pairs", "training", "before", "after"
PAGE, TABLE, BEGUN = "round.md", "round.json", "round-settings.json"
WEIGHTS = "enhancer.safetensors"
SETTINGS = "severe-4,severe-8,severe-16"


@dataclass(frozen=True)
class Kept:
    """What a collection gave. faces: kept; photos: with any of them, of `of_photos`; left_out: the others by reason;
    shards: what holds the faces, as an input."""

    photos: int
    of_photos: int
    faces: int
    left_out: dict[str, int]
    shards: str


@dataclass(frozen=True)
class Begun:
    """A round that may start. place: its output; training: local folder; size: side of the faces that the enhancer
    takes; pairs: how they are made."""

    place: Location
    training: Path
    size: int
    pairs: Pairs


@dataclass(frozen=True)
class Round:
    """A finished round. enhancer: what was learned; page: URL of its Markdown; document: the content of its JSON."""

    enhancer: Path
    page: str
    markdown: str
    document: dict[str, Any]


def keep(config: Config, address: str | None = None) -> Kept:
    """Restore what ``config`` names and keep the good faces, or go on with it. Raises what `jobs.restore.restore` does,
    and ConfigError when nothing is kept."""
    prepared = prepare(image_config(config) if names_images(config) else config)
    execute(prepared, address)
    with completing(prepared.plan.complete):
        return kept(prepared.run.output)


def kept(output: Output) -> Kept:
    """What an output of kept faces holds. Raises StorageError, LedgerError, and ConfigError when it holds none."""
    status = output.status()
    stored = (record.object(SHARDS) for record in output.records())
    names = sorted(one.name.removeprefix(f"{SHARDS}/").removesuffix(".tar") for one in stored if one is not None)
    counts = status.counts
    if not counts["faces"]:
        reasons = ", ".join(f"{count:,} {code}" for code, count in status.errors.items())
        raise ConfigError(
            f"no face of the collection is good enough to learn from ({reasons}); relax keep.* in a new --output"
        )
    # One input, so that their folder is listed once; by name, for it may also hold what an interrupted attempt left.
    listed = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
    shards = f"{output.location.url}/{SHARDS}/{listed}.tar"
    return Kept(counts["restored"], counts["photos"], counts["faces"], status.errors, shards)


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
    config = config_from(**options)
    plan = {"steps": steps, "lr": lr, "batch": batch, "threads": threads, "bf16": bf16}
    begun = check(config, faces, settings, training, recipe, pairs_per_face)
    place, enhancer = begun.place, begun.training / WEIGHTS
    with interruptible(), redirect_stdout(sys.stderr):  # what the steps say; the answer alone goes to stdout
        begin(place, {**_told(config, begun), **plan, "faces": faces, "settings": settings, "most": measure_faces})
        click.echo("1 of 4: restoring, and keeping what became better")
        keeping = {"keep": config.keep or Keep(), "output": f"{place.url}/{KEPT}"}
        found = keep(config.model_copy(update=keeping), address)
        click.echo(f"2 of 4: pairs of {found.faces:,} kept faces and of {', '.join(faces)}")
        sources = (found.shards, *faces)
        pairing = {"keep": None, "pairs": begun.pairs, "input": sources, "output": f"{place.url}/{PAIRS}"}
        made = pairs(config.model_copy(update=pairing), address=address)
        click.echo(f"3 of 4: training on {made.pairs['train']:,} pairs, from {config.enhance.enhancer} on")
        train(context, config, made.output, begun.training, size=begun.size, **plan)
        click.echo("4 of 4: measuring before and after")
        for name, source in ((BEFORE, config.enhance.enhancer), (AFTER, str(enhancer))):
            model = config.enhance.model_copy(update={"enhancer": source})
            measuring = {"keep": None, "input": faces, "output": f"{place.url}/{name}", "enhance": model}
            measured = config.model_copy(update=measuring)
            evaluate(measured, settings=settings, held_out=True, faces=measure_faces, address=address)
        finished = publish(place, found, made.pairs, enhancer)
    click.echo(json.dumps(finished.document, indent=1) if as_json else finished.markdown)


def check(
    config: Config, faces: Sequence[str], settings: str, training: Path | None, recipe: str, per_face: int
) -> Begun:
    """What a later step would refuse is refused here, before the first one takes hours.

    Makes the folder of the training and nothing else. Raises ConfigError, InputError, ModelError, StorageError or
    WeightsError.
    """
    from operators.enhance.builtin import KIND
    from operators.enhance.network import SCALE
    from operators.training.weights import load_weights
    from pipeline.evaluation.settings import settings_named

    if config.pairs is not None:
        raise ConfigError("pairs: set --recipe and --pairs-per-face; dr2e curate makes the rest of this section")
    if config.storage.input != config.storage.output:
        raise ConfigError("storage: input and output need the same options, for what is written is read again")
    settings_named(settings)
    size = describe(config).face_size
    try:
        chosen = Pairs(recipe=recipe, per_face=per_face, size=size * SCALE, identity=IDENTITY)
    except ValidationError as error:
        raise ConfigError(f"--recipe, --pairs-per-face: {error.errors()[0]['msg']}") from None
    source = config.enhance.enhancer
    if source not in ("builtin", "none"):
        load_weights(Path(source), KIND)
    _check_held_out(config, faces)
    place = Location(config.output, config.storage.output)
    folder = training or (Path(place.url) / TRAINING if place.is_local else None)
    if folder is None:
        raise ConfigError(f"--training: {place.url} is no local folder; name one for the training")
    _check_training(folder.absolute(), source, is_new=not place.exists(BEGUN))
    return Begun(place, folder.absolute(), size, chosen)


def _check_held_out(config: Config, faces: Sequence[str]) -> None:
    """Raises InputError when no good face is held out, ConfigError when one might be trained on all the same."""
    shards = resolve_inputs(faces, config.storage.input)
    sample = choose(shards, config.storage.input, config.unit, only_held_out=True)
    for key in (photo.key for unit in sample.units for photo in unit.samples):
        if identity(key, IDENTITY) != key:
            raise ConfigError(
                f"--faces: {key!r} is named as a kept face is, and would be learned from if its photo may be; rename "
                "such keys"
            )


def _check_training(folder: Path, enhancer: str, is_new: bool) -> None:
    """Make the folder of a training. Raises ConfigError when it cannot be written to or holds what it must not.

    is_new: the round has not begun yet.
    """
    from operators.training.loop import CHECKPOINT

    if enhancer not in ("builtin", "none") and Path(enhancer).absolute() == folder / WEIGHTS:
        raise ConfigError(f"--training: {folder} holds --enhancer itself; name another folder for this round")
    if is_new and (folder / CHECKPOINT).exists():
        raise ConfigError(f"--training: {folder} holds another training; name another folder for this round")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable")
    except OSError as error:
        raise ConfigError(f"--training: {folder}: {error.strerror}; name another folder") from None


def _told(config: Config, begun: Begun) -> dict[str, Any]:
    """What decides a round beside its training: settings and models."""
    models = {role: model["sha256"] for role, model in describe(config).to_json().items()}
    return {"config": config.result(), "models": models, "pairs": begun.pairs.model_dump(mode="json")}


def begin(place: Location, settings: Mapping[str, Any]) -> None:
    """Note what the round is. Raises ConfigError when another was begun here, StorageError."""
    told = json.loads(json.dumps(settings))
    if place.put_if_absent(BEGUN, json.dumps(told, indent=1).encode()):
        return
    before = json.loads(place.read(BEGUN))
    if different := sorted(name for name in told.keys() | before.keys() if told.get(name) != before.get(name)):
        raise ConfigError(
            f"{place.url} was begun as another round ({', '.join(different)}); continue it as it was, or name a new "
            "--output"
        )


def train(context: click.Context, config: Config, url: str, folder: Path, **plan: Any) -> None:
    """`dr2e train enhancer` on the pairs at `url`."""
    from jobs.train_enhancer import command as train_enhancer

    options = json.dumps(dict(config.storage.output)) if config.storage.output else None
    begin = None if config.enhance.enhancer == "none" else config.enhance.enhancer
    context.invoke(
        train_enhancer, pairs_url=url, out=folder, begin=begin, seed=config.seed, storage_options=options, **plan
    )


def publish(place: Location, found: Kept, made: Mapping[str, int], enhancer: Path) -> Round:
    """Write the round's page and its JSON."""
    from operators.training.weights import sha256_file
    from pipeline.evaluation.compare import compare, document, markdown, verdict

    differences = compare(place.child(BEFORE), place.child(AFTER))
    told = {
        "format": "dr2e.round/1",
        "photos": found.of_photos,
        "photos_kept": found.photos,
        "faces_kept": found.faces,
        "left_out": found.left_out,
        "pairs": dict(made),
        "enhancer": {"path": str(enhancer), "sha256": sha256_file(enhancer)},
        "verdict": verdict(differences),
        "differences": document(differences),
    }
    page = "\n".join(
        [
            "# A round of curation",
            "",
            f"{found.faces:,} restored faces of {found.photos:,} of {found.of_photos:,} photos were kept; "
            f"{made['train']:,} pairs were trained on.",
            "",
            "| photos left out | |",
            "| --- | --- |",
            *(f"| {code} | {count:,} |" for code, count in found.left_out.items()),
            "",
            "The enhancer before → after the round, on held-out faces (and the change ± its 95 % interval):",
            "",
            markdown(differences),
            "",
            verdict(differences),
            "",
        ]
    )
    place.put(TABLE, json.dumps(told, indent=1, ensure_ascii=False).encode())
    place.put(PAGE, page.encode())
    return Round(enhancer, f"{place.url}/{PAGE}", page, told)
