"""The command that is to run on a cluster, checked on this machine: what it would refuse there is refused now.

Nothing secret travels: a job's command line and package are shown and kept by Ray. Nor does a path mean the same there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from jobs.options import config_from, options_of_run
from pipeline.config import Config, ConfigError, Resources, load
from pipeline.models import describe, loaded_roles, sources
from pipeline.secrecy import gives_away
from pipeline.store.named import is_stored_name

ALLOWED = ("restore", "pairs", "curate", "retry", "evaluate", "verify")

SETTINGS = "settings.yaml"
"""What a configuration file is called beside the job."""

_FROM_THERE = (
    "a job's credentials come from the environment of the cluster's machines or from their role (for S3 "
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
)

_NO_PORT = "--metrics-port is for a Ray that the run starts; a cluster's machines have a port of their own"


@dataclass(frozen=True)
class Inner:
    """A command that may be sent. arguments: as they are given to it there. settings: the content of SETTINGS, None
    where it has no configuration file. output: a URL or path. paths: of disks that all machines must see."""

    name: str
    arguments: tuple[str, ...]
    settings: dict[str, Any] | None
    output: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class _Named:
    """What the options of a command name. config: None where it has none of its own. places: URLs or paths, by the
    option; files: paths alone."""

    output: str
    config: Config | None = None
    places: Mapping[str, Sequence[str]] | None = None
    files: Mapping[str, Path | None] | None = None


def check(context: click.Context, words: Sequence[str]) -> Inner:
    """The command `words`, such as ["restore", "--input", ...], as it is to be sent.

    Raises UsageError for words that it would not take, ConfigError or ModelError for settings that it would not, for
    what may be secret, and for relative paths.
    """
    if not words:
        raise click.UsageError(f"name the command to run there: {', '.join(ALLOWED)}", context)
    name, *arguments = words
    if name not in ALLOWED:
        raise click.UsageError(f"'{name}' is not run on a cluster, but {', '.join(ALLOWED)} are; run it here", context)
    _refuse_secrets(arguments)
    inner: click.Command = importlib.import_module(f"jobs.{name}").command
    # Without arguments of its own, which would stand in every message's way.
    above = click.Context(click.Command("submit"), parent=context.parent, info_name="submit")
    params = inner.make_context(name, list(arguments), parent=above).params
    if params.get("address"):
        raise click.UsageError(
            f"--address belongs before '{name}': there is one cluster, and the job is on it", context
        )
    if params.get("storage_options"):
        raise ConfigError(f"--storage-options may hold secrets, which are not sent; {_FROM_THERE}")
    named = _CHECKS[name](params)
    if params.get("metrics_port") is not None:
        raise ConfigError(_NO_PORT)
    paths = list(_paths(named))
    if params.get("events") is not None:
        paths.append(_absolute("--events", str(params["events"])))
    settings = None
    if named.config is not None:
        _refuse_storage(named.config)
        _refuse_port(named.config.resources)
        paths += _paths_of_models(named.config)
        if params["file"] is not None:
            settings = named.config.model_dump(mode="json", exclude_unset=True, exclude={"storage"})
            arguments = [*_without("--config", arguments), "--config", SETTINGS]
            _refuse_secrets(list(_texts(settings)))
    return Inner(name, tuple(arguments), settings, named.output, tuple(dict.fromkeys(paths)))


def _restore(params: Mapping[str, Any]) -> _Named:
    from jobs.restore import require_photos

    config = config_from(**options_of_run(params))
    require_photos(config)
    return _Named(config.output, config)


def _pairs(params: Mapping[str, Any]) -> _Named:
    from jobs.pairs import with_pairs

    config = with_pairs(config_from(**options_of_run(params)))
    return _Named(config.output, config)


def _evaluate(params: Mapping[str, Any]) -> _Named:
    from jobs.evaluate import grid_asked
    from pipeline.evaluation import settings

    grid = grid_asked(params["select"], params["grid_step"])
    known = settings.SETTINGS if grid is None else (settings.CLEAN, *settings.SETTINGS)
    named = tuple(setting.name for setting in settings.settings_named(params["settings"], known))
    settings.evaluate_section(size=params["size"], settings=named, grid=grid)
    config = config_from(**options_of_run({**params, "select": None if grid is not None else params["select"]}))
    return _Named(config.output, config, files={"--weights": params["weights"]})


def _curate(params: Mapping[str, Any]) -> _Named:
    from jobs.curation.begin import pairs_of
    from pipeline.evaluation.settings import settings_named

    of_pairs = ("recipe", "pairs_per_face")
    config = config_from(**options_of_run({name: params[name] for name in params if name not in of_pairs}))
    pairs_of(config, params["recipe"], params["pairs_per_face"])
    settings_named(params["settings"])
    if params["training"] is None and "://" in config.output:
        raise ConfigError(f"--training: {config.output} is no folder; name one on a disk that all machines see")
    places, files = {"--faces": params["faces"]}, {"--training": params["training"]}
    return _Named(config.output, config, places, files)


def _retry(params: Mapping[str, Any]) -> _Named:
    output = params["output"]
    before, now = (
        load(None, given, base={"input": [output], "output": output}) for given in ((), params["assignments"])
    )
    _refuse_storage(now)
    _refuse_port(now.resources)
    free = {"limits": before.limits, "resources": before.resources, "models": before.models}
    if now.model_copy(update=free) != before:
        raise ConfigError("--set: a retry takes limits.*, resources.*, models.* alone; all else is as its run had it")
    return _Named(output)


def _verify(params: Mapping[str, Any]) -> _Named:
    return _Named(params["output"], files={"--journal": params["journal"]})


_CHECKS: dict[str, Callable[[Mapping[str, Any]], _Named]] = {
    "restore": _restore,
    "pairs": _pairs,
    "curate": _curate,
    "retry": _retry,
    "evaluate": _evaluate,
    "verify": _verify,
}


def _refuse_secrets(texts: Sequence[str]) -> None:
    """Raises ConfigError for a text with a credential that we know to be one, which is not shown."""
    for text in texts:
        if gives_away(text):
            option = text.partition("=")[0] if text.startswith("--") else ""
            where = option if option and not gives_away(option) else "an argument or a setting"
            raise ConfigError(f"{where} holds what may be credentials, and a job is shown and logged; {_FROM_THERE}")


def _refuse_port(resources: Resources) -> None:
    if resources.metrics_port is not None:
        raise ConfigError(_NO_PORT)


def _refuse_storage(config: Config) -> None:
    if config.storage.input or config.storage.output or config.storage.models:
        raise ConfigError(
            f"storage: these settings may hold secrets, which are not sent; leave them out: {_FROM_THERE}"
        )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _without(option: str, arguments: Sequence[str]) -> list[str]:
    """`arguments` less an option that takes a value, however often it is there."""
    left, skip = [], False
    for argument in arguments:
        if not skip and argument != option and not argument.startswith(f"{option}="):
            left.append(argument)
        skip = not skip and argument == option
    return left


def _paths(named: _Named) -> Iterator[str]:
    """The local paths among what a command names. Raises ConfigError for relative ones."""
    config = named.config
    places: dict[str, Sequence[str]] = {"output": [named.output], **(named.places or {})}
    if config is not None:
        places["input"] = config.input
    for option, texts in places.items():
        for text in (text.removeprefix("file://") for text in texts):
            if "://" not in text:
                yield _absolute(option, text)
    for option, path in (named.files or {}).items():
        if path is not None:
            yield _absolute(option, str(path))


def _paths_of_models(config: Config) -> list[str]:
    """The paths of models that are no part of dr2e, after those that are here were checked. Raises ConfigError,
    ModelError."""
    found, all_here = [], True
    loaded = set(loaded_roles(config))
    for role, source in sources(config).items():
        kind, _, folder = source.partition(":")
        if kind in {"builtin", "none", "pyiqa"} or role not in {*loaded, "niqe", "policy"}:
            continue
        if role in loaded and is_stored_name(config, source):
            found += _place_of_store(config, role, source)
            all_here &= Path(config.models.store or "").is_dir()  # a bucket may be the cluster's alone
            continue
        path = Path(folder if kind == "retinaface" else source)
        here = path.exists()
        all_here &= here
        if role == "prior" and not here and not path.suffix and not path.is_absolute():
            continue  # a name of the hub
        if "://" not in source:
            found.append(_absolute(role, str(path)))
    if all_here or any("://" in source for source in sources(config).values()):
        describe(config)
    return found


def _place_of_store(config: Config, role: str, name: str) -> list[str]:
    """The path of the store that a model is of, where it is on a disk. Raises ConfigError where none is named."""
    store = config.models.store
    if store is None:
        raise ConfigError(
            f"{role}: {name} is a model of a store, and the cluster's machines do not know which; name a bucket or a "
            "folder that all of them see with --set models.store=URL"
        )
    return [] if "://" in store else [_absolute("models.store", store)]


def _absolute(option: str, path: str) -> str:
    if path.startswith("/"):
        return path
    raise ConfigError(
        f"{option}: {path} would be looked for in another folder there; give a URL or the absolute path of something "
        "on a disk that all machines of the cluster see"
    )
