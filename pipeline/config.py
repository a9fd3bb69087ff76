"""The configuration: one typed model that files, command-line flags and code share."""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.secrecy import Unshown, complaint, shown

if TYPE_CHECKING:
    from operators.pairs.recipes import Mixture

Count = PositiveInt | Literal["auto"]

DR2 = "dr2"
"""The remover of degradation that is the paper's."""


_ELSEWHERE = {"input", "output", "changed", "models", "storage", "resources"}
"""Sections that say where and how wide a run works."""


class ConfigError(ValueError):
    """A setting is unknown, missing or out of range; the message is one line and names the setting."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Unit(Section):
    """How shards are cut into units, the work that commits as one."""

    max_samples: PositiveInt = Field(default=256, description="photos per unit at most")
    max_bytes: PositiveInt = Field(default=256 * 2**20, description="bytes of input per unit at most")


class Limits(Section):
    """What is refused before it is decoded."""

    max_pixels: PositiveInt = Field(default=200_000_000, description="width x height of a photo at most")
    max_bytes: PositiveInt = Field(default=256 * 2**20, description="bytes of an encoded photo at most")


class Detect(Section):
    """Finding faces."""

    detector: str = Field(
        default="builtin", description="'builtin', a weight file, a model of the store, or 'retinaface:FOLDER'"
    )
    max_faces: PositiveInt = Field(default=256, description="faces of one photo that are restored, the surest first")


class Restore(Section):
    """Degradation removal by DR2, and the choice of (N, tau); or by another network, which knows neither."""

    remover: str = Field(default=DR2, description="what removes degradation: 'dr2', or a SwinIR of the store or a file")
    prior: str = Field(
        default="builtin",
        description="'builtin', a weight file, a model of the store, a diffusers folder or a hub name",
    )
    niqe: str = Field(
        default="builtin", description="the judge: 'builtin', a file of 'dr2e fit-niqe' or 'pyiqa:METRIC'"
    )
    policy: str = Field(default="builtin", description="'builtin' or a policy written by 'dr2e fit-selection'")
    select: Literal["niqe", "fixed"] = Field(default="niqe", description="choose (N, tau) per face, or fix it")
    n: int | None = Field(default=None, ge=1, le=64, description="low-pass factor N; only with select = fixed")
    tau: int | None = Field(
        default=None, ge=0, lt=1000, description="output timestep of 1000; only with select = fixed"
    )

    stride: int = Field(
        default=40, ge=10, le=500, multiple_of=10, description="timesteps of 1000 per evaluation; 10 as published"
    )

    @model_validator(mode="before")
    @classmethod
    def _giving_n_and_tau_means_fixed(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "select" in data:
            return data
        return data if data.get("n") is None and data.get("tau") is None else {**data, "select": "fixed"}

    @model_validator(mode="after")
    def _n_and_tau_belong_to_fixed(self) -> Self:
        if self.select == "fixed" and (self.n is None or self.tau is None):
            raise ValueError("select = fixed needs both n and tau, for example --n 4 --tau 280")
        if self.remover != DR2 and self.select == "fixed":
            raise ValueError(f"n and tau are of DR2; leave them out, or use remover = {DR2}")
        if self.select == "niqe" and (self.n is not None or self.tau is not None):
            raise ValueError("select = niqe chooses n and tau itself; leave them out, or use select = fixed")
        return self

    @property
    def method(self) -> str:
        """What removes degradation, for a person."""
        return "DR2" if self.remover == DR2 else "SwinIR"


class Enhance(Section):
    """From the clean face to the sharp face."""

    enhancer: str = Field(
        default="builtin", description="'builtin', 'none' (bicubic), a weight file or a model of the store"
    )
    fidelity: float | None = Field(
        default=None,
        description="of an enhancer that has such a knob: more keeps more of the person; none: as published",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="what the enhancer computes in, where it allows it"
    )


class Write(Section):
    """What is written."""

    original: bool = Field(default=True, description="keep the original photo beside the restored one")
    upscale: Literal[1, 2, 4] = Field(default=1, description="times the written photo is larger than it came")
    upscaler: str = Field(
        default="bicubic", description="'bicubic', or a super-resolution network of the store or a file"
    )
    tile: int = Field(
        default=256, ge=64, le=4096, multiple_of=32,
        description="pixels of a photo a side that the network sees at a time; more is faster and takes more memory",
    )  # fmt: skip
    parser: str = Field(
        default="none",
        description="what says which part of a face is pasted back: 'none' (an ellipse), or a ParseNet of the store or "
        "a file",
    )

    @property
    def by_network(self) -> bool:
        """Whether a network enlarges photos."""
        return self.upscale > 1 and self.upscaler != "bicubic"


class Gate(Section):
    """Which faces are good enough to be the target of a pair; what is not set is not asked."""

    enlargement: float = Field(default=1.15, gt=0, description="times a face may be enlarged from its photo at most")
    niqe: float | None = Field(default=None, description="NIQE of the target at most, for example 5")
    sharpness: float | None = Field(
        default=None,
        ge=0,
        description="variance of the target's Laplacian at least; of 463 sharp faces at 256 px 5 % have less than 43",
    )
    turn: float | None = Field(
        default=None,
        gt=0,
        description="eye distances the nose is beside the middle of the eyes at most; 5 % of 463 faces have over 0.2",
    )
    duplicates: int | None = Field(
        default=None,
        ge=0,
        le=16,
        description="of 64 bits, how many the perceptual hashes of near-duplicates differ in at most, for example 5",
    )


class Pairs(Section):
    """Training pairs of good faces, instead of restored photos."""

    recipe: str = Field(default="dr2", description="'dr2', 'classical', 'second-order' or NAME=WEIGHT,NAME=WEIGHT")
    per_face: int = Field(default=4, ge=1, le=1000, description="pairs of every face")
    size: int = Field(default=256, ge=32, le=2048, description="side of the high-quality image, pixels")
    n: int = Field(default=4, ge=1, le=64, description="recipe dr2: the low-pass factor N")
    taus: tuple[int, ...] = Field(
        default=(50, 100, 150, 200), min_length=1, description="recipe dr2: output timesteps of 1000 to draw from"
    )
    sigma: tuple[float, float] = Field(default=(1.0, 7.0), description="recipe dr2: range of the blur, pixels at 512")
    severity: Literal["mild", "medium", "severe", "any"] = Field(default="any", description="recipe classical")
    identity: str | None = Field(
        default=None, description="regular expression: what of a key names the person; else each key is one"
    )
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        from operators.pairs.recipes import RecipeError  # not for every run

        try:
            self.mixture()
        except RecipeError as error:
            raise ValueError(str(error)) from None
        try:
            re.compile(self.identity or "")
        except re.error as error:
            raise ValueError(f"identity is no regular expression: {error}") from None
        if any(tau % 10 or not 0 <= tau < 1000 for tau in self.taus) or not 0 <= self.sigma[0] <= self.sigma[1]:
            raise ValueError("taus are multiples of 10 below 1000, sigma is a range from small to large")
        return self

    def mixture(self) -> Mixture:
        """The recipes with their shares of the pairs."""
        from operators.pairs.recipes import ClassicalRecipe, Dr2Recipe, Mixture

        dr2, classical = Dr2Recipe(self.n, self.taus, self.sigma), ClassicalRecipe(self.severity)
        return Mixture(Mixture.parse(self.recipe).weights, {"dr2": dr2, "classical": classical})


class Keep(Section):
    """Restored faces that are good enough to learn from, instead of restored photos."""

    gain: float = Field(default=0.5, description="NIQE of the face that came less NIQE of what became of it, at least")
    niqe: float | None = Field(default=None, description="NIQE of what became of it at most, for example 5")
    fidelity: float = Field(default=0.96, le=1, description="structure left at coarse scales at least; 1 is all")
    moved: float = Field(default=0.12, gt=0, description="eye distances its landmarks are elsewhere at most")


class Pool(Section):
    """Actors of one stage. Not part of the result: it may change between a run and its resumption."""

    workers: Count = Field(default="auto", description="actors; auto: one per GPU, or one per node without GPUs")
    cpus: float = Field(default=0.25, ge=0, description="CPUs reserved per actor")
    gpus: float = Field(default=0.0, ge=0, description="GPU fraction reserved per actor, when the device is cuda")
    threads: Count = Field(default="auto", description="torch threads per actor; auto: its share of the machine")


class BatchPool(Pool):
    """Actors that work on batches of faces."""

    batch: PositiveInt = Field(default=16, description="faces per forward pass")


class SlotPool(Pool):
    """Actors that run DR2."""

    batch: PositiveInt = Field(
        default=32,
        description="faces on their way at once; more than go through the network together, so that a GPU "
        "need not wait",
    )


class Resources(Section):
    """Where and how wide the run works. Not part of the result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    detect: Pool = Pool(cpus=0.2, gpus=0.1)
    restore: SlotPool = SlotPool(cpus=0.6, gpus=0.7)
    enhance: BatchPool = BatchPool(cpus=0.2, gpus=0.2)
    read_cpus: float = Field(default=0.2, gt=0, description="CPUs reserved per reading task")
    commit_cpus: float = Field(default=0.5, gt=0, description="CPUs reserved per committing task")
    rounds: PositiveInt = Field(
        default=1, description="passes in a row that finish nothing before photos are tried one by one"
    )
    shards_at_once: Count = Field(
        default="auto",
        description="shards per execution of the graph: Ray remembers every task, and new machines wait, until it "
        "ends; auto: 5 per actor of restore, and 250 at least",
    )
    patience_seconds: float = Field(
        default=300.0, ge=0, description="how long a request to busy or unreachable storage is tried again"
    )
    stalled_seconds: float = Field(
        default=600.0, gt=0, description="a worker without progress for so long is ended and its work tried again"
    )
    unit_seconds: float = Field(default=86400.0, gt=0, description="time a stage may take for one unit in all")
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="where a Ray that the run starts itself answers Prometheus; a cluster has its own",
    )
    metrics_stay_seconds: float = Field(
        default=15.0, ge=0, le=600, description="and how long it still does when all is done, for the last figures"
    )
    isolated_seconds: float = Field(
        default=86400.0, gt=0, description="time a photo tried alone may take in all; stalled_seconds ends most sooner"
    )


class NamedModels(Section):
    """Where models that are named lie. Not part of the result: what they are is."""

    store: str | None = Field(
        default=None, description="folder or URL of the store; else DR2E_MODELS, else in the user's cache folder"
    )
    cache: str | None = Field(
        default=None,
        description="folder of each machine for copies from a store elsewhere; else DR2E_MODELS_CACHE, else in the "
        "user's cache folder",
    )
    accept: tuple[str, ...] = Field(default=(), description="noncommercial models whose licence you have acknowledged")
    pin: dict[str, str] = Field(
        default_factory=dict, description="SHA-256 by name: any other model of that name is refused"
    )

    @field_validator("store")
    @classmethod
    def _holds_no_credentials(cls, value: str | None) -> str | None:
        if value is not None and (refused := complaint(value)):
            raise ValueError(refused)
        return value


class Storage(Section):
    """fsspec options per side, such as {endpoint_url: ..., secret: ...}; never recorded or logged."""

    input: dict[str, Any] = Field(default_factory=dict, repr=False)
    output: dict[str, Any] = Field(default_factory=dict, repr=False)
    models: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("input", "output", "models")
    @classmethod
    def _unshown(cls, value: dict[str, Any]) -> dict[str, Any]:
        return Unshown(value)


class Config(Section):
    """A run: what goes in, where it goes, and how."""

    input: tuple[str, ...] = Field(min_length=1, description="shards (files, folders, globs, ranges) or images")
    output: str = Field(min_length=1, description="folder or URL of the run")
    seed: int = Field(default=0, ge=0, lt=2**63)
    unit: Unit = Unit()
    limits: Limits = Limits()
    detect: Detect = Detect()
    restore: Restore = Restore()
    enhance: Enhance = Enhance()
    write: Write = Write()
    pairs: Pairs | None = Field(default=None, description="make training pairs instead of restored photos")
    keep: Keep | None = Field(default=None, description="keep good restored faces instead of restored photos")
    changed: Literal["refuse", "redo", "skip"] = Field(
        default="refuse",
        description="shards that changed since they were committed: begin nothing, do them anew, or leave them alone",
    )
    models: NamedModels = NamedModels()
    resources: Resources = Resources()
    storage: Storage = Field(default_factory=Storage, repr=False)

    @model_validator(mode="after")
    def _makes_one_thing(self) -> Self:
        if self.pairs is not None and self.keep is not None:
            raise ValueError("pairs and keep: a run makes one of them")
        if self.pairs is not None and self.restore.remover != DR2:
            raise ValueError(f"restore.remover: pairs are made with DR2; leave it out, or use {DR2}")
        if self.write.upscale > 1 and (self.pairs is not None or self.keep is not None):
            raise ValueError("write.upscale: only restored photos are written larger; leave it at 1")
        if self.changed == "redo" and self.pairs is not None and self.pairs.gate.duplicates is not None:
            raise ValueError("changed: pairs without near-duplicates cannot be done anew in part; use refuse or skip")
        return self

    @field_validator("input", mode="before")
    @classmethod
    def _one_input_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("input", "output")
    @classmethod
    def _urls_hold_no_credentials(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for url in (value,) if isinstance(value, str) else value:
            if refused := complaint(url):
                raise ValueError(refused)
        return value

    def without_secrets(self) -> Config:
        """The same without the options of input and output, for what reaches neither."""
        return self.model_copy(update={"storage": Storage(models=self.storage.models)})

    @property
    def cut(self) -> Unit:
        """How shards are cut into units: as `unit` says, and smaller where enlarged photos travel with their unit."""
        if not self.write.by_network:
            return self.unit
        return self.unit.model_copy(update={"max_bytes": max(1, self.unit.max_bytes // self.write.upscale**2)})

    def result(self) -> dict[str, Any]:
        """The settings that decide what the output holds, as JSON: not where and how wide the run works."""
        return self.model_dump(mode="json", exclude=_ELSEWHERE)


def load(
    file: str | Path | None = None,
    assignments: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration ``base`` (nested) or of ``file``, then assignments, then ``overrides``; see `settings`.

    The keys of ``overrides`` are dotted too; a None among its values says nothing. Raises ConfigError, one line.
    """
    data = settings(file, assignments, base)
    for key, value in (overrides or {}).items():
        if value is not None:
            _assign(data, key, value)
    return build(data)


def settings(
    file: str | Path | None = None, assignments: Iterable[str] = (), base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The nested settings ``base`` or of ``file`` (YAML or TOML), then assignments, ``restore.n=4``, whose values are
    YAML. What they mean is not looked at. Raises ConfigError, one line that shows no value."""
    data = _read(Path(file)) if file is not None else copy.deepcopy(dict(base or {}))
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            given = assignment if re.fullmatch(r"[\w.]+", assignment) else "..."  # else perhaps a secret behind a colon
            raise ConfigError(f"--set {given}: write it as section.key=value")
        try:
            _assign(data, key.strip(), yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}: the value is not readable as YAML: {_what_and_where(error)}") from None
    return data


def build(data: Mapping[str, Any]) -> Config:
    """A validated Config from nested mappings. Raises ConfigError, one line naming every wrong setting."""
    try:
        return Config.model_validate(dict(data))
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        by_setting: dict[str, str] = {}
        for problem in problems:  # a union reports once per alternative: one message per setting is enough
            by_setting.setdefault(_name(problem), _explain(problem))
        raise ConfigError("; ".join(by_setting.values())) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as {path.suffix or 'YAML'}: {_what_and_where(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the configuration must be a mapping of settings")
    return data


def _assign(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {section} is not a section")
        data = inner
    data[name] = value


def _name(problem: Any) -> str:
    # pydantic names the member of a union it tried: "constrained-int", "literal['auto']"
    parts = [str(part) for part in problem["loc"] if not str(part).startswith(("constrained-", "literal["))]
    return ".".join(parts) or "configuration"


def _explain(problem: Any) -> str:
    name = _name(problem)
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, names := setting_names(), n=1, cutoff=0.6)
        close = close or [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]][:1]
        return f"unknown setting {name}" + (f"; did you mean {close[0]}?" if close else "")
    if problem["type"] == "missing":
        return f"{name} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" or name.startswith("storage"):  # storage options may be secret
        return f"{name}: {message}"
    given = problem["input"]
    if isinstance(given, Mapping | list | tuple):  # perhaps storage options, in the wrong place
        return f"{name}: {message[:1].lower()}{message[1:]}, not a {type(given).__name__}"
    return f"{name}: {message[:1].lower()}{message[1:]}, not {shown(repr(given))}"


def setting_names(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Dotted names of all settings, sections included."""
    names = []
    for name, field in section.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += setting_names(field.annotation, f"{prefix}{name}.")
    return names


def _what_and_where(error: Exception) -> str:
    """One line about a text that could not be parsed, without the text: what it says there may be secret."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return f"{error.problem or error.context}{where}"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 (at byte {error.start})"
    return " ".join(str(error).split())
