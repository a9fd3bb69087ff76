"""Forecasts of a run on one cluster or another, and their table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config import Config, ConfigError
from pipeline.output import Output
from pipeline.profile import Profile, profile_of
from pipeline.progress import clock
from pipeline.simulation.cluster import Cluster
from pipeline.simulation.estimate import Forecast, forecast
from pipeline.simulation.rates import Rates

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)")
_TIMES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Comparison:
    """The same photos on some clusters. source, measured: where the rates come from, and how many of its units.
    profile: of those."""

    source: str
    measured: int
    profile: Profile
    clusters: tuple[str, ...]
    forecasts: tuple[Forecast, ...]


def compare(
    photos: int | None, clusters: Sequence[Cluster], rates: Output, config: Config, left: int = 0
) -> Comparison:
    """Forecast a run of `config` over `photos` photos on each cluster, from what `rates` holds.

    photos: None where they were not counted, as those of shards in an object store are not: then as many as make `left`
    bytes. Raises ConfigError when there is nothing to do or nothing was measured; StorageError, LedgerError.
    """
    found = Rates.measured(rates)
    if photos is None:
        photos = round(left * found.photos.sum() / max(found.bytes_in.sum(), 1))
    if photos < 1:
        raise ConfigError("there is nothing left to simulate; name a number with --photos")
    seconds = {stage: float(values.sum()) for stage, values in found.seconds.items()}
    return Comparison(
        found.source,
        found.units,
        profile_of(int(found.photos.sum()), int(found.faces.sum()), seconds),
        tuple(map(str, clusters)),
        tuple(forecast(photos, cluster, found, config) for cluster in clusters),
    )


def number(text: str) -> int:
    """ "10k", "2.5M", "1000000". Raises ConfigError."""
    match = _NUMBER.fullmatch(text.replace(",", "").replace("_", ""))
    if not match or not (count := round(float(match[1]) * _TIMES[match[2]])):
        raise ConfigError(f"--photos {text}: write a number above 0, such as 250000, 10k or 100M")
    return count


def table(found: Comparison) -> str:
    """For a person: a column for each cluster."""
    rows: list[tuple[str, Callable[[Forecast], str]]] = [
        ("time", lambda one: f"{_days(one.seconds)}{_plus_minus(one.error)}"),
        ("GPU hours", lambda one: f"{one.gpu_hours:,.1f}, {one.gpu_hours_busy:,.1f} at work" if one.gpu_hours else "–"),
        ("CPU hours", lambda one: f"{one.cpu_hours:,.1f}"),
        ("cost", lambda one: "no price given" if one.cost is None else f"{one.cost:,.2f}"),
        ("photos/s", lambda one: f"{one.photos / one.seconds:,.3g}"),
        ("slowest", lambda one: one.slowest),
    ]
    for place, load in enumerate(found.forecasts[0].loads):
        rows.append((f"  {load.stage}", lambda one, place=place: _load(one, place)))  # type: ignore[misc]
    if any(one.lost for one in found.forecasts):
        rows.append(("done anew", lambda one: f"{one.lost:,} units"))
    cells = [["simulated", *found.clusters], *([name, *map(told, found.forecasts)] for name, told in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    first = found.forecasts[0]
    lines += [
        f"{first.photos:,} photos, about {first.faces:,} faces, in {first.units:,} units; "
        f"{_size(first.bytes_read)} read, {_size(first.bytes_written)} written",
        *(f"{name}: {one.advice}" for name, one in zip(found.clusters, found.forecasts, strict=True)),
        f"rates of {found.measured:,} units of {found.source}: {found.profile.advice}",
        *(
            f"{told} for {name}"
            for name, one in zip(found.clusters, found.forecasts, strict=True)
            if (told := _how(one))
        ),
    ]
    return "\n".join(lines)


def _how(one: Forecast) -> str:
    if one.simulated >= one.units:
        return ""
    return f"{one.simulated:,} of {one.units:,} units simulated, the rest extrapolated"


def _load(one: Forecast, place: int) -> str:
    load = one.loads[place]
    return f"{load.busy:.0%} of {load.workers:,}"


def _plus_minus(error: float) -> str:
    return "" if error < 0.005 else f" ± {error:.0%}" if error < 1 else " (too few units measured)"


def _days(seconds: float) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{int(days)} d {clock(rest)}" if days else clock(seconds)


def _size(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"
