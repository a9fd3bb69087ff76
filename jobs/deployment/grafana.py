"""The dashboard of a run for Grafana, and the alerts for Prometheus, made of one list of panels."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.metrics.names import (
    BATCH_ROWS,
    BROKEN,
    COMMITS,
    COMMITTED_BYTES,
    EVALUATIONS,
    FACES,
    ISOLATED_LOSSES,
    ISOLATING,
    LEFT_BYTES,
    LEFT_SHARDS,
    LOSSES,
    PHOTOS,
    READ_BYTES,
    REJECTED,
    ROUNDS,
    STAGE_PHOTOS,
    STAGE_SECONDS,
    STAGE_UNITS,
    STORAGE_RETRIES,
    UNIT_SECONDS,
    WRITTEN_BYTES,
    Metric,
)

DASHBOARD, ALERTS = "dr2e.json", "alerts.yaml"

BANNER = "Written by 'dr2e deploy grafana'; change jobs/deployment/grafana.py and write it again rather than this file."

RUN = '{run=~"$run"}'
"""What takes the runs that are chosen on top of the page."""

Tree = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """expr: PromQL. legend: of its lines, with {{tag}} for a tag's value."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """unit: as Grafana names it. about: what it says to who does not know. wide: columns of 24."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    wide: int = 8
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Alert:
    """expr: PromQL, true when something is wrong; lasting: so long."""

    name: str
    expr: str
    lasting: str
    severity: str
    summary: str


def rate(metric: Metric, by: str = "run") -> str:
    """What a counter grows by per second, over processes."""
    return f"sum by ({by}) (rate({metric.exported}{RUN}[$__rate_interval]))"


def grown(metric: Metric, by: str = "run") -> str:
    """What a counter grew by in what the page shows."""
    return f"sum by ({by}) (increase({metric.exported}{RUN}[$__range]))"


def quantile(share: float, metric: Metric, by: str) -> str:
    """So much of a histogram's values was below."""
    buckets = f"rate({metric.exported}_bucket{RUN}[$__rate_interval])"
    return f"histogram_quantile({share:g}, sum by ({by}, le) ({buckets}))"


def newest(metric: Metric) -> str:
    """A gauge of the driver."""
    return f"max by (run) ({metric.exported}{RUN})"


_FULL = f"{rate(EVALUATIONS)} / {rate(BATCH_ROWS)}"
_FAILED = f'{STAGE_UNITS.exported}{{run=~"$run", outcome="failed"}}'
_LEFT_SECONDS = f"{newest(LEFT_BYTES)} / {rate(COMMITTED_BYTES)}"

ROWS = (
    Row(
        "Progress",
        (
            Panel(
                "Photos per second", "Committed, by what became of them.", "ops",
                (Query(rate(PHOTOS, "run, status"), "{{run}} {{status}}"),), stacked=True,
            ),
            Panel("Faces per second", "Committed.", "ops", (Query(rate(FACES, "run, status"), "{{run}} {{status}}"),)),
            Panel("Time left", "At the rate of the latest minutes.", "s", (Query(_LEFT_SECONDS, "{{run}}"),)),
            Panel("Input left", "Bytes that are not committed yet.", "bytes", (Query(newest(LEFT_BYTES), "{{run}}"),)),
            Panel(
                "Rejected photos by reason", "What went to quarantine, in what this page shows.", "short",
                (Query(grown(REJECTED, "run, code"), "{{run}} {{code}}"),), stacked=True,
            ),
            Panel(
                "Commits", "Units by outcome. Refused and failed ones are tried again.", "ops",
                (Query(rate(COMMITS, "run, outcome"), "{{run}} {{outcome}}"),),
            ),
        ),
    ),
    Row(
        "Work",
        (
            Panel("Evaluations per second", "Of the prior: faces the network saw.", "ops",
                  (Query(rate(EVALUATIONS), "{{run}}"),)),
            Panel("Batch fill", "Share of the network's batches that held faces; the rest is padding.", "percentunit",
                  (Query(_FULL, "{{run}}"),)),
            Panel("Photos per second, by stage", "Work, tried again or not.", "ops",
                  (Query(rate(STAGE_PHOTOS, "run, stage"), "{{run}} {{stage}}"),)),
            Panel("Time of a unit in a stage, median", "From when a worker takes it.", "s",
                  (Query(quantile(0.5, STAGE_SECONDS, "run, stage"), "{{run}} {{stage}}"),)),
            Panel("Time of a unit in a stage, 95 %", "From when a worker takes it.", "s",
                  (Query(quantile(0.95, STAGE_SECONDS, "run, stage"), "{{run}} {{stage}}"),)),
            Panel("Time of a unit, from reading to commit", "Waiting between stages included.", "s", (
                Query(quantile(0.5, UNIT_SECONDS, "run"), "{{run}} median"),
                Query(quantile(0.95, UNIT_SECONDS, "run"), "{{run}} 95 %"),
            )),
            Panel("Bytes per second", "Read, with what is read again; written, of committed units.", "Bps", (
                Query(rate(READ_BYTES), "{{run}} read"),
                Query(rate(WRITTEN_BYTES), "{{run}} written"),
            )),
            Panel("Blocks waiting", "Ray Data's queue before each step of the graph: units, all but a few.", "short",
                  (Query("sum by (dataset, operator) (ray_data_num_external_inqueue_blocks)", "{{operator}}"),)),
            Panel("Storage tried again", "Requests to storage that was busy or away.", "ops",
                  (Query(rate(STORAGE_RETRIES), "{{run}}"),)),
        ),
    ),
    Row(
        "Trouble",
        (
            Panel("Losses", "Blocks that Ray Data lost, by cause, in what this page shows.", "short",
                  (Query(grown(LOSSES, "run, cause"), "{{run}} {{cause}}"),)),
            Panel("Rounds", "Begun, and broken off, in what this page shows.", "short", (
                Query(grown(ROUNDS), "{{run}} begun"),
                Query(grown(BROKEN), "{{run}} broken off"),
            )),
            Panel("Units that failed in a stage", "For want of memory, a GPU or storage.", "short",
                  (Query(f"sum by (run, stage) (increase({_FAILED}[$__range]))", "{{run}} {{stage}}"),)),
            Panel("Photo by photo", "1 while what rounds left goes photo by photo; photos that lost a worker there.",
                  "short", (
                      Query(newest(ISOLATING), "{{run}}"),
                      Query(grown(ISOLATED_LOSSES), "{{run}} lost a worker"),
                  )),
            Panel("Shards left", "With something left to do, when the round began.", "short",
                  (Query(newest(LEFT_SHARDS), "{{run}}"),)),
        ),
    ),
    Row(
        "Machines",
        (
            Panel("CPU", "Of each node, as Ray sees it.", "percent",
                  (Query("max by (instance) (ray_node_cpu_utilization)", "{{instance}}"),)),
            Panel("Memory", "Share in use.", "percentunit",
                  (Query("max by (instance) (ray_node_mem_used / ray_node_mem_total)", "{{instance}}"),)),
            Panel("GPU", "Of each GPU.", "percent",
                  (Query("max by (instance, GpuIndex) (ray_node_gpus_utilization)", "{{instance}} {{GpuIndex}}"),)),
            Panel("GPU memory", "In use.", "decmbytes",
                  (Query("max by (instance, GpuIndex) (ray_node_gram_used)", "{{instance}} {{GpuIndex}}"),)),
            Panel("Object store", "Bytes, by where they are.", "bytes",
                  (Query("sum by (Location) (ray_object_store_memory)", "{{Location}}"),), stacked=True),
            Panel("Disk", "Share in use of the disk with Ray's temporary folder.", "percent",
                  (Query("max by (instance) (ray_node_disk_utilization_percentage)", "{{instance}}"),)),
        ),
    ),
)  # fmt: skip

RULES = (
    Alert(
        "Dr2eStands",
        f"sum by (run) (rate({PHOTOS.exported}[2h])) == 0 and on (run) max by (run) ({LEFT_BYTES.exported}) > 0",
        "2h",
        "critical",
        "No photo of {{ $labels.run }} was committed for two hours, and something is left to do. A search for "
        "near-duplicates commits none, and on a CPU a unit of group pictures may take as long.",
    ),
    Alert(
        "Dr2eRefused",
        f'sum by (run) (increase({COMMITS.exported}{{outcome="refused"}}[15m])) > 0',
        "0m",
        "warning",
        "The output of {{ $labels.run }} or a disk does not take finished units.",
    ),
    Alert(
        "Dr2eLoses",
        f"sum by (run) (increase({LOSSES.exported}[30m])) > 10",
        "0m",
        "warning",
        "{{ $labels.run }} loses blocks: workers or machines die, or are out of memory or disk.",
    ),
    Alert(
        "Dr2eRejectsMuch",
        f'sum by (run) (increase({PHOTOS.exported}{{status="rejected"}}[1h]))'
        f" / sum by (run) (increase({PHOTOS.exported}[1h])) > 0.2",
        "15m",
        "warning",
        "More than a fifth of the photos of {{ $labels.run }} goes to quarantine.",
    ),
)


def files() -> dict[str, str]:
    """The text of every file by its name."""
    return {DASHBOARD: f"{json.dumps(dashboard(), indent=1)}\n", ALERTS: f"# {BANNER}\n{_yaml(alerts())}"}


def expressions() -> list[str]:
    """Every expression of the dashboard and of the alerts."""
    shown = [query.expr for row in ROWS for panel in row.panels for query in panel.queries]
    return [*shown, *(alert.expr for alert in RULES)]


def alerts() -> Tree:
    """The rules file of Prometheus."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": alert.lasting,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary},
        }
        for alert in RULES
    ]
    return {"groups": [{"name": "dr2e", "rules": rules}]}


def dashboard() -> Tree:
    """What Grafana imports."""
    panels: list[Tree] = []
    y = 0
    for row in ROWS:
        panels.append(_heading(row, len(panels) + 1, y))
        y += 1
        x = 0
        for panel in row.panels:
            if x + panel.wide > 24:
                x, y = 0, y + 8
            panels.append(_graph(panel, len(panels) + 1, {"x": x, "y": y, "w": panel.wide, "h": 8}))
            x += panel.wide
        y += 8
    return {
        "uid": "dr2e",
        "title": "dr2e",
        "description": BANNER,
        "tags": ["dr2e", "ray"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-12h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[Tree]:
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    query = f"label_values({PHOTOS.exported}, run)"
    run = {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "run"},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }
    return [source, run]


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _heading(row: Row, number: int, y: int) -> Tree:
    place = {"x": 0, "y": y, "w": 24, "h": 1}
    return {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}


def _graph(panel: Panel, number: int, place: Tree) -> Tree:
    custom: Tree = {"lineWidth": 1, "fillOpacity": 10}
    if panel.stacked:
        custom |= {"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}
    targets = [
        {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query.expr, "legendFormat": query.legend}
        for place, query in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _yaml(tree: Tree) -> str:
    return yaml.safe_dump(tree, sort_keys=False, width=1000)
