"""Options that several commands share, and how they become a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.config import Config, ConfigError, load

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_SHORTCUTS = {
    "output": "output",
    "select": "restore.select",
    "n": "restore.n",
    "tau": "restore.tau",
    "seed": "seed",
    "prior": "restore.prior",
    "policy": "restore.policy",
    "enhancer": "enhance.enhancer",
    "detector": "detect.detector",
    "recipe": "pairs.recipe",
    "pairs_per_face": "pairs.per_face",
    "size": "pairs.size",
    "identity": "pairs.identity",
    "metrics_port": "resources.metrics_port",
}

events: Decorator = click.option(
    "--events",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append what happens to FILE, a JSON object a line.",
)
metrics_port: Decorator = click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Where Prometheus finds metrics of a Ray that starts on this machine.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")

storage_options = click.option(
    "--storage-options",
    metavar="JSON",
    help="Options of the object store: @FILE, or JSON, which others see; else the environment's AWS_* variables hold.",
)


SELECT: Decorator = click.option(
    "--select", type=click.Choice(["niqe", "fixed"]), help="Choose (N, tau) per face, or fix it."
)


INPUT: tuple[Decorator, ...] = (
    click.option("--input", "inputs", multiple=True, metavar="URL", help="Shards or images; may be repeated."),
    click.option("--output", metavar="URL", help="Folder or bucket prefix for everything that is written."),
    click.option("--config", "file", type=click.Path(path_type=Path), help="YAML or TOML file of settings."),
    click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Such as unit.max_samples=64."),
)
SEED: Decorator = click.option("--seed", type=int, help="Seed of the noise; the same seed gives the same bytes.")
PRIOR: Decorator = click.option(
    "--prior", metavar="MODEL", help="'builtin', a name of 'dr2e models', a file, a diffusers folder or a hub name."
)
DETECTOR: Decorator = click.option(
    "--detector", metavar="MODEL", help="'builtin', a name of 'dr2e models', a file or retinaface:FOLDER."
)


def run_options(function: Callable[..., Any], select: Decorator = SELECT) -> Callable[..., Any]:
    """The options that describe a run; `config_from` makes a Config of them. select: the option --select."""
    return with_options(
        function,
        *INPUT,
        select,
        click.option("--n", type=int, help="Fix N, the factor of the low-pass filter: larger removes more."),
        click.option("--tau", type=int, help="Fix tau, the output timestep of 1000: larger removes more."),
        SEED,
        PRIOR,
        click.option("--policy", metavar="MODEL", help="What chooses N and tau: 'builtin' or a weight file."),
        click.option("--enhancer", metavar="MODEL", help="'builtin', 'none', a name of 'dr2e models' or a file."),
        DETECTOR,
        storage_options,
    )


def pair_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe a run of training pairs."""
    return with_options(
        function,
        *INPUT,
        click.option(
            "--recipe", metavar="NAMES", help="dr2, classical, second-order, or shares: dr2=0.7,classical=0.3."
        ),
        click.option("--pairs-per-face", type=int, help="Pairs of every face; with dr2 they share one trajectory."),
        click.option("--size", type=int, help="Side of the high-quality image in pixels."),
        click.option("--identity", metavar="REGEX", help="What of a key names the person, such as '^[^_]+'."),
        SEED,
        PRIOR,
        DETECTOR,
        storage_options,
    )


def with_options(function: Callable[..., Any], *options: Decorator) -> Callable[..., Any]:
    """`function` with these options, which --help shows in this order."""
    for option in reversed(options):
        function = option(function)
    return function


def config_from(
    inputs: tuple[str, ...],
    file: Path | None,
    assignments: tuple[str, ...],
    storage_options: str | None,
    **shortcuts: Any,
) -> Config:
    """The configuration that the options of `run_options` describe. Raises ConfigError."""
    overrides = {_SHORTCUTS[name]: value for name, value in shortcuts.items()}
    if inputs:
        overrides["input"] = list(inputs)
    if storage_options:
        parsed = parse_storage(storage_options)
        overrides |= dict.fromkeys(("storage.input", "storage.output", "storage.models"), parsed)
    return load(file, assignments, overrides)


def options_of_run(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a command's parameters that `config_from` takes."""
    taken = {"inputs", "file", "assignments", "storage_options", *_SHORTCUTS}
    return {name: value for name, value in params.items() if name in taken}


def parse_storage(text: str | None) -> dict[str, Any]:
    """Storage options from JSON or @FILE. Raises ConfigError, which never shows their content."""
    if not text:
        return {}
    source = text
    if text.startswith("@"):
        try:
            source = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            given = "@..." if text[1:].lstrip().startswith("{") else text  # perhaps the options themselves
            raise ConfigError(f"--storage-options {given}: {error.strerror}; give JSON or @FILE") from None
        except UnicodeDecodeError:
            raise ConfigError(f"--storage-options {text}: it is not UTF-8; write the file as JSON") from None
    try:
        options = json.loads(source)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise ConfigError('--storage-options: give a JSON object, such as \'{"endpoint_url": "http://..."}\'')
    return options
