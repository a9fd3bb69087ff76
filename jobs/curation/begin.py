"""What must hold before a round begins, and what it was begun as."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config import Config, ConfigError, Pairs
from pipeline.evaluation.sample import choose
from pipeline.inputs import resolve_inputs
from pipeline.keeping.members import IDENTITY
from pipeline.ledger import read_description
from pipeline.models import describe
from pipeline.pairs.members import identity
from pipeline.run import RunMismatch, differences
from pipeline.storage import Location

BEGUN = "round-settings.json"
TRAINING = "training"
WEIGHTS = "enhancer.safetensors"


@dataclass(frozen=True)
class Begun:
    """A round that may start. place: its output; training: local folder; size: side of the faces that the enhancer
    takes; pairs: how they are made."""

    place: Location
    training: Path
    size: int
    pairs: Pairs


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

    chosen = pairs_of(config, recipe, per_face)
    if config.storage.input != config.storage.output:
        raise ConfigError("storage: input and output need the same options, for what is written is read again")
    settings_named(settings)
    size = describe(config).face_size
    source = config.enhance.enhancer
    if source not in ("builtin", "none"):
        load_weights(Path(source), KIND)
    place = Location(config.output, config.storage.output)
    folder = training or (Path(place.url) / TRAINING if place.is_local else None)
    if folder is None:
        raise ConfigError(f"--training: {place.url} is no local folder; name one for the training")
    is_new = not place.exists(BEGUN)
    if is_new:  # else it was, and the headers of all good shards need not be read for it again
        _check_held_out(config, faces)
    _check_training(folder.absolute(), source, is_new)
    return Begun(place, folder.absolute(), size, chosen.model_copy(update={"size": size * SCALE}))


def pairs_of(config: Config, recipe: str, per_face: int) -> Pairs:
    """How the pairs of a round are made, of the usual size; looks at no disk. Raises ConfigError."""
    if config.pairs is not None:
        raise ConfigError("pairs: set --recipe and --pairs-per-face; dr2e curate makes the rest of this section")
    if config.changed == "redo":
        raise ConfigError("changed: what a round learned from cannot be done anew in part; use refuse or skip")
    try:
        return Pairs(recipe=recipe, per_face=per_face, identity=IDENTITY)
    except ValidationError as error:
        raise ConfigError(f"--recipe, --pairs-per-face: {error.errors()[0]['msg']}") from None


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


def begin(begun: Begun, config: Config, round_settings: Mapping[str, Any]) -> None:
    """Note what the round is. round_settings: of the command, plain values.

    Raises RunMismatch when another was begun here, StorageError, LedgerError.
    """
    told: dict[str, Any] = {
        "config": config.result(),
        "models": {role: model["sha256"] for role, model in describe(config).to_json().items()},
        "pairs": begun.pairs.model_dump(mode="json"),
        **json.loads(json.dumps(round_settings)),
    }
    place = begun.place
    if place.put_if_absent(BEGUN, json.dumps(told, indent=1).encode()):
        return
    before = read_description(place, BEGUN, "a round") or {}
    different = [
        *differences(before.pop("config", {}), told.pop("config")),  # apart, for where models lie does not count there
        *differences(before, told),
    ]
    if different:
        raise RunMismatch(
            f"{place.url} was begun as another round ({'; '.join(different)}); continue it as it was, or name a new "
            "--output"
        )
