"""A run and its identity: what decides the result, recorded once as ``run.json`` and held to ever after."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from operators.images import ImageLimits
from pipeline.config import Config, NamedModels
from pipeline.events.label import label_of
from pipeline.inputs import ShardRef
from pipeline.members import BICUBIC, CommitContext
from pipeline.models import Models
from pipeline.output import Output
from pipeline.product import Product, product_of
from pipeline.storage import Location
from pipeline.store.named import store_of

_PACKAGES = ("dr2e", "torch", "diffusers", "pyiqa", "numpy", "pillow", "pyarrow", "ray")
# Where a model lies does not matter as long as its hash is the same, and the hash is compared on its own.
_SOURCES = {"detect.detector", "restore.prior", "restore.niqe", "restore.policy", "enhance.enhancer"}
_SOURCES |= {"restore.remover", "write.upscaler", "write.parser"}


class RunMismatch(ValueError):
    """The output belongs to a run with other settings or models; one line with what differs and the remedy."""


class Run:
    """One output and what makes it. Travels to workers; it holds credentials and therefore shows nothing."""

    def __init__(
        self,
        config: Config,
        models: Models,
        settings: Mapping[str, Any] | None = None,
        product: Product | None = None,
    ) -> None:
        """settings: of a retry, those that differ from the run's, by dotted name. product: if not that of `config`."""
        self.config, self.settings = config, dict(settings or {})
        self.product = product or product_of(config)
        self.models = models
        patience = config.resources.patience_seconds
        self.output = Output(Location(config.output, config.storage.output, patience=patience))
        self.versions = versions()

    def __repr__(self) -> str:
        return f"Run({self.output.location})"

    @property
    def label(self) -> str:
        """What metrics and events call it."""
        return label_of(self.output.location.url)

    def without_secrets(self) -> Config:
        """Its configuration for workers that reach neither input nor output, with the whole URL of its output."""
        changes = {"output": self.output.location.url, "models": self._held()}
        return self.config.without_secrets().model_copy(update=changes)

    def _held(self) -> NamedModels:
        """Where its stored models are, whatever a worker's environment says, and that they are what was found."""
        models = self.config.models
        if not self.models.stored:
            return models
        held = {"store": store_of(self.config).url, "pin": {**models.pin, **self.models.stored}}
        return models.model_copy(update=held)

    def commit_context(self) -> CommitContext:
        """What every photo's provenance repeats."""
        models = {role: f"{model['name']} {model['sha256']}".rstrip() for role, model in self.models.to_json().items()}
        limits = ImageLimits(max_pixels=self.config.limits.max_pixels, max_bytes=self.config.limits.max_bytes)
        return CommitContext(
            self.config.seed, models, self.versions, self.config.write.original, limits, self.settings,
            self.product.encode, self.product.arrange, self.config.write.upscale,
            BICUBIC if self.models.upscaler is None else self.models.upscaler.name,
        )  # fmt: skip

    def record(self, shards: Sequence[ShardRef]) -> dict[str, Any]:
        """The content of ``run.json``: settings, models, versions and input, no credentials."""
        return {
            "format": 1,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": self.config.result(),
            "models": self.models.to_json(),
            "licences_accepted": list(self.config.models.accept),
            "versions": self.versions,
            "input": {
                "shards": len(shards),
                "bytes": sum(shard.size for shard in shards),
                "fingerprint": fingerprint(shards),
            },
        }

    def check(self, recorded: Mapping[str, Any]) -> None:
        """Raises RunMismatch unless ``recorded`` has this run's settings and models."""
        different = list(differences(known_settings(recorded.get("config", {})), self.config.result()))
        before, now = recorded.get("models", {}), self.models.to_json()
        for role in {**now, **before}:
            was, is_ = before.get(role, {}), now.get(role, {})
            if was.get("sha256") != is_.get("sha256"):
                different.append(f"the {role} is another model")
            elif "settings" in was and was["settings"] != is_.get("settings"):
                different.append(f"the {role} is loaded otherwise: {was['settings']}")
        if different:
            raise RunMismatch(
                f"{self.output.location.url} was begun with other settings ({'; '.join(different)}); "
                "continue it with those, or name a new --output"
            )


def versions() -> dict[str, str]:
    """Versions of what the result may depend on, without importing it."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def fingerprint(shards: Sequence[ShardRef]) -> str:
    """SHA-256 over names, sizes and fingerprints of the input shards."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"{shard.relative}\0{shard.size}\0{shard.etag}\n".encode())
    return digest.hexdigest()


def known_settings(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record, with the defaults of those that were not there yet when it was written."""
    defaults = {} if not recorded else Config(input=("",), output="-").result()
    return _over(defaults, recorded)


def _over(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _over(defaults[name], value)
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping)
        else value
        for name, value in given.items()
    }
    return {**defaults, **both}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What differs between two nested settings, a phrase each; where models lie does not count, their hashes do."""
    for name in sorted(before.keys() | now.keys()):
        path, old, new = prefix + name, before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}.")
        elif old != new and path not in _SOURCES:
            yield f"{path} was {json.dumps(old)}, is {json.dumps(new)}"
