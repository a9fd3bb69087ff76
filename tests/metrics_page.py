"""The tables of docs/metrics.md, made from the metrics and the events there are."""

from __future__ import annotations

import inspect
from pathlib import Path

from pipeline.events.kinds import EVENTS
from pipeline.metrics.names import COMMITTED, ROUND, WORK, Metric

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
METRICS_START, EVENTS_START = "<!-- metrics: python -m metrics_page -->\n", "<!-- events: python -m metrics_page -->\n"
END = "<!-- end -->\n"

_PARTS = (
    ("What is committed", "Counted by the driver when it hears of it: once, however often it was tried.", COMMITTED),
    ("How rounds get on", "Counted by the driver.", ROUND),
    ("Work", "Counted by the workers that do it: what is tried twice counts twice.", WORK),
)  # fmt: skip


def renewed(page: str) -> str:
    """`page` with the tables of today."""
    return _between(_between(page, METRICS_START, metrics()), EVENTS_START, events())


def metrics() -> str:
    """A table for each part."""
    head = "| metric | kind | unit | tags | what |\n|---|---|---|---|---|\n"
    parts = (f"\n### {title}\n\n{about}\n\n{head}{''.join(map(_row, of))}" for title, about, of in _PARTS)
    return f"{''.join(parts)}\n"


def events() -> str:
    """A table of all kinds."""
    head = "| event | level | when | fields |\n|---|---|---|---|\n"
    rows = []
    for kind in EVENTS:
        fields = "; ".join(f"`{name}` {field.description}" for name, field in kind.model_fields.items())
        when = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
        rows.append(f"| `{kind.name()}` | {kind.level} | {when} | {fields} |\n")
    return f"\n{head}{''.join(rows)}\n"


def _row(metric: Metric) -> str:
    tags = ", ".join(f"`{tag}`" for tag in metric.tags)
    if metric.values:
        tags += f" ({', '.join(metric.values)})"
    return f"| `{metric.exported}` | {metric.kind} | {metric.unit} | {tags} | {metric.description} |\n"


def _between(page: str, start: str, table: str) -> str:
    before, _, rest = page.partition(start)
    return before + start + table + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
