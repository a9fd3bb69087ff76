"""Counting through Ray, which exports what every process counted on its node. It never fails whoever counts.

Outside of Ray nothing is counted: nobody could ask for it.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

from pipeline.metrics.names import SECONDS, Metric

log = logging.getLogger(__name__)

OTHER = "other"
"""In place of a reason that is none of ours, or one too many."""

_CODE = re.compile(r"[a-z_]{1,24}(\.[a-z0-9_]{1,40}){0,2}")
_MOST_CODES = 100  # of one process; every reason there is fits in

_instruments: dict[str, Any] = {}  # Ray's metrics have no common useful type
_codes: set[str] = set()


def count(metric: Metric, value: float = 1, /, **tags: str) -> None:
    """Add to a counter; with 0 its series is there from the beginning, so that the first event is seen as one."""
    _record(metric, value, tags)


def gauge(metric: Metric, value: float, /, **tags: str) -> None:
    """Set a gauge. Ray forgets one that is not set again within two of its reporting intervals (20 s)."""
    _record(metric, value, tags)


def observe(metric: Metric, value: float, /, **tags: str) -> None:
    """Add a value to a histogram. Ray exports buckets and count as they are, the sum by the middles of the buckets."""
    _record(metric, value, tags)


def begin(metric: Metric, /, **tags: str) -> None:
    """Let the series of a counter begin at 0, one for each of the values of its last tag that are known."""
    if metric.kind != "counter":
        return
    if not metric.values:
        if set(metric.tags) == tags.keys():
            count(metric, 0, **tags)
        return
    for value in metric.values:
        count(metric, 0, **tags, **{metric.tags[-1]: value})


def code_of(text: str) -> str:
    """A reason for a tag: as it is, or OTHER where it is unlike any of ours or one of too many."""
    if text in _codes:
        return text
    if len(_codes) >= _MOST_CODES or not _CODE.fullmatch(text):
        return OTHER
    _codes.add(text)
    return text


def forget() -> None:
    """After this process left Ray: what was made for it is of no use for another."""
    _instruments.clear()


def _record(metric: Metric, value: float, tags: dict[str, str]) -> None:
    try:
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        instrument = _instruments.get(metric.name)
        if instrument is None:
            instrument = _instruments[metric.name] = _made(metric)
        instrument._record(value, tags)  # what inc, set and observe do; inc takes no 0
    except Exception as error:
        log.debug("%s is not counted: %s", metric.name, error)


def _made(metric: Metric) -> Any:
    from ray.util.metrics import Counter, Gauge, Histogram

    if metric.kind == "histogram":
        return Histogram(metric.name, metric.description, list(SECONDS), metric.tags)
    return (Counter if metric.kind == "counter" else Gauge)(metric.name, metric.description, metric.tags)
