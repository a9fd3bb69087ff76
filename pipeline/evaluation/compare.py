"""Two evaluations face by face: the same faces under the same degradations, restored by two sets of models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from operators.quality.metrics.names import Metric, metrics_called
from pipeline.config import ConfigError
from pipeline.evaluation.driver import recorded, results
from pipeline.evaluation.measure import FACES
from pipeline.evaluation.results import METHODS, PhotoResult
from pipeline.evaluation.settings import CLEAN, SETTINGS, Setting
from pipeline.evaluation.statistics import Mean, mean
from pipeline.evaluation.table import table
from pipeline.ledger import LedgerError
from pipeline.storage import Location

FINAL = METHODS[-1]

Face = tuple[str, str, str]
"""Shard, key and setting."""


@dataclass(frozen=True)
class Difference:
    """One metric at one setting over the faces that both measured: means of either, and of second - first."""

    setting: Setting
    metric: Metric
    first: Mean
    second: Mean
    change: Mean

    @property
    def better(self) -> bool | None:
        """Whether the second is better; None where the change's confidence interval holds 0, or there is none."""
        change, width = self.change.mean, self.change.half_width
        if change is None or width is None or abs(change) <= width:
            return None
        return (change > 0) == self.metric.higher_is_better


def compare(first: Location, second: Location) -> list[Difference]:
    """What users get (the enhanced face) in two evaluations, by setting and metric, in the order of the tables.

    Raises ConfigError where there is no evaluation, or two of other faces, seeds or sizes; StorageError; LedgerError.
    """
    for name, ours, theirs in zip(("seed", "size", "faces"), _base(first), _base(second), strict=True):
        if ours != theirs:
            raise ConfigError(
                f"{first.url} and {second.url} were made with different {name}; compare evaluations of the same faces"
            )
    before, after = (_values(_results(location)) for location in (first, second))
    metrics = metrics_called({name for values in before.values() for name in values})
    found = []
    for setting in (CLEAN, *SETTINGS):
        faces = sorted(face for face in before.keys() & after.keys() if face[2] == setting.name)
        for metric in metrics:
            both = [(before[face].get(metric.name), after[face].get(metric.name)) for face in faces]
            pairs = [(one, other) for one, other in both if one is not None and other is not None]
            if pairs:
                change = mean(other - one for one, other in pairs)
                of_first, of_second = (mean(values) for values in zip(*pairs, strict=True))
                found.append(Difference(setting, metric, of_first, of_second, change))
    if not found:
        raise ConfigError(f"{first.url} and {second.url} have no face in common that both measured")
    return found


def verdict(differences: Sequence[Difference]) -> str:
    """One line: how often either is better beyond chance."""
    better, worse = (sum(one.better is wanted for one in differences) for wanted in (True, False))
    return (
        f"Figures: {len(differences)}. The second is better in {better} and worse in {worse}, beyond the 95 % "
        f"confidence interval of the paired difference; the other {len(differences) - better - worse} may be chance."
    )


def markdown(differences: Sequence[Difference]) -> str:
    """A table: a row per setting, a cell "first → second (change ± half width)" per metric, what is better in bold."""
    metrics = metrics_called({one.metric.name for one in differences})
    rows: defaultdict[Setting, dict[str, Difference]] = defaultdict(dict)
    for one in differences:
        rows[one.setting][one.metric.name] = one
    body = [
        [setting.name, str(max(one.change.n for one in of.values())), *(_cell(of.get(m.name)) for m in metrics)]
        for setting, of in rows.items()
    ]
    return table(["setting", "faces", *(f"{metric.label} {metric.arrow}" for metric in metrics)], body)


def document(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """The same unrounded; JSON values."""
    return [
        {
            "setting": one.setting.name,
            "metric": one.metric.name,
            "first": asdict(one.first),
            "second": asdict(one.second),
            "change": asdict(one.change),
            "better": one.better,
        }
        for one in differences
    ]


def _cell(one: Difference | None) -> str:
    if one is None:
        return "–"
    digits = one.metric.digits
    first, second = (f"{value.mean or 0.0:.{digits}f}" for value in (one.first, one.second))
    if one.better is not None:
        first, second = (first, f"**{second}**") if one.better else (f"**{first}**", second)
    width = "" if one.change.half_width is None else f" ± {one.change.half_width:.{digits}f}"
    return f"{first} → {second} ({one.change.mean or 0.0:+.{digits}f}{width})"


def _base(location: Location) -> tuple[object, object, object]:
    """What two evaluations must have in common: seed, side of the faces, fingerprint of the sample."""
    found = recorded(location)
    if found is None:
        raise ConfigError(f"{location.url} is no evaluation; run 'dr2e evaluate' first, or check the path")
    try:
        evaluate = found["config"]["evaluate"]
        return found["config"]["seed"], evaluate["size"], evaluate["sample"]
    except (KeyError, TypeError) as error:
        raise LedgerError(f"{location.url} does not describe its evaluation ({type(error).__name__})") from None


def _results(location: Location) -> list[PhotoResult]:
    return results(location, [entry.name for entry in location.entries(FACES)])


def _values(photos: Sequence[PhotoResult]) -> dict[Face, Mapping[str, float | None]]:
    """The final version's metrics by face."""
    return {
        (photo.shard, photo.key, face.setting): version.values
        for photo in photos
        for face in photo.faces
        for version in face.versions
        if version.method == FINAL
    }
