"""What an evaluation adds to a run's configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, PositiveInt, ValidationError

from operators.degrade.classical import DOWNSAMPLING, SEVERITIES
from operators.quality.metrics.reference import MIN_SIDE
from pipeline.config import Config, ConfigError, Section


@dataclass(frozen=True)
class Setting:
    """One of Eq. 13's degradations. severity: of SEVERITIES; r: of DOWNSAMPLING, stated at 512 px."""

    severity: str
    r: int

    @property
    def name(self) -> str:
        """As in "severe-16"."""
        return f"{self.severity}-{self.r}"


CLEAN = Setting("clean", 1)
"""No degradation at all: what a mixed collection holds beside SETTINGS."""

SETTINGS = tuple(Setting(severity, r) for severity in SEVERITIES for r in DOWNSAMPLING)
"""The paper's nine, in the order of its Table 1."""


def settings_named(text: str | None, known: Sequence[Setting] = SETTINGS) -> tuple[Setting, ...]:
    """Those of `known` named in `text`, such as "severe-16,mild-4", in their order; all without a text.

    Raises ConfigError for a name that is none.
    """
    if text is None:
        return tuple(known)
    wanted = {name.strip() for name in text.split(",")}
    if unknown := wanted - {setting.name for setting in known}:
        names = ", ".join(setting.name for setting in known)
        raise ConfigError(f"--settings: {', '.join(sorted(unknown))} is none of {names}")
    return tuple(setting for setting in known if setting.name in wanted)


class Evaluate(Section):
    """The part that decides results beside a run's settings."""

    size: int = Field(default=256, ge=MIN_SIDE, le=1024, description="side of the truth and of all measuring, pixels")
    settings: tuple[str, ...] = Field(default=tuple(setting.name for setting in SETTINGS), min_length=1)
    grid: int | None = Field(
        default=None, ge=10, le=400, multiple_of=10,
        description="one setting per photo, and every N with every tau of a grid this fine, timesteps of 1000",
    )  # fmt: skip
    held_out: bool = Field(default=False, description="only the keys that training leaves out")
    faces: PositiveInt | None = Field(default=None, description="photos at most, the first by the hash of their key")
    sample: str = Field(default="", description="fingerprint of the photos that were chosen; found, not configured")
    shown: tuple[str, ...] = Field(default=(), description="photos the contact sheets may show; found, not configured")
    weights: dict[str, str] = Field(default_factory=dict, description="SHA-256 of the metrics' weights, by metric")
    folder: str | None = Field(default=None, description="where those weights lie; does not decide the result")
    metrics: tuple[str, ...] = Field(default=(), description="metrics of pyiqa to measure besides")

    @property
    def folder_of_weights(self) -> str | None:
        """Where workers look for weights of metrics; None where they need none."""
        return self.folder if self.weights else None


class EvaluationConfig(Config):
    """A run's configuration and what is evaluated; stages of a run take it as it is."""

    evaluate: Evaluate = Evaluate()

    @classmethod
    def of(cls, config: Config, evaluate: Evaluate) -> Self:
        """`config` with an evaluation."""
        values = {name: getattr(config, name) for name in Config.model_fields}
        return cls.model_construct(**values, evaluate=evaluate)

    def result(self) -> dict[str, Any]:
        """See Config.result."""
        settings = super().result()
        del settings["evaluate"]["folder"]
        if not self.evaluate.metrics:  # as in evaluations from before there were any
            del settings["evaluate"]["metrics"]
        return settings

    @property
    def chosen_settings(self) -> tuple[Setting, ...]:
        return tuple(setting for setting in (CLEAN, *SETTINGS) if setting.name in self.evaluate.settings)

    def settings_of(self, key: str) -> tuple[Setting, ...]:
        """What the face of the photo with this key is degraded by: every setting, or with a grid one, drawn by seed
        and key: a collection of mixed damage, as archives are."""
        settings = self.chosen_settings
        if self.evaluate.grid is None:
            return settings
        drawn = hashlib.sha256(f"{self.seed}\0{key}\0setting".encode()).digest()
        return (settings[int.from_bytes(drawn[:8], "big") % len(settings)],)


def evaluate_section(**values: Any) -> Evaluate:
    """A validated section. Raises ConfigError, one line naming the option."""
    try:
        return Evaluate(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        name, message = problem["loc"][0], problem["msg"]
        raise ConfigError(f"--{name}: {message[:1].lower()}{message[1:]}, not {problem['input']!r}") from None


def of_evaluation(config: Config) -> EvaluationConfig:
    """`config`, known to be an evaluation's. Raises TypeError for another."""
    if not isinstance(config, EvaluationConfig):
        raise TypeError("this stage belongs to an evaluation and needs its configuration")
    return config
