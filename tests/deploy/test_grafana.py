"""The dashboard and the alerts: written from their source, and whole. That their metrics exist is in
tests/jobs/test_observed_run.py."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from promql import named

from jobs.deploy import command
from jobs.deployment.grafana import RULES, dashboard, expressions, files

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"


def test_the_files_are_those_of_the_source(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["grafana", "--out", str(tmp_path / "new")], catch_exceptions=False)
    assert result.exit_code == 0
    for name, text in files().items():
        assert (FOLDER / name).read_text() == text, "run dr2e deploy grafana"
        assert (tmp_path / "new" / name).read_text() == text
    assert {path.name for path in FOLDER.iterdir()} == files().keys()


def test_the_panels_have_places_of_their_own() -> None:
    page = json.loads(json.dumps(dashboard()))
    panels = page["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        cells = set(product(range(x, x + w), range(y, y + h)))
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert {variable["name"] for variable in page["templating"]["list"]} == {"datasource", "run"}


def test_alerts_need_nothing_of_the_page() -> None:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    assert len(group["rules"]) == len(RULES)
    assert not [rule["alert"] for rule in group["rules"] if "$run" in rule["expr"] or "$__" in rule["expr"]]


def test_every_expression_is_understood() -> None:
    assert all(named(expression).metrics for expression in expressions())
    what = named('sum by (run, le) (rate(a_bucket{run=~"$run", x!="}b("}[5m])) / on (run) max(c) and d > 0.5')
    assert (what.metrics, what.labels) == ({"a_bucket", "c", "d"}, {"run", "le", "x"})


@pytest.mark.parametrize("wrong", ["rat(a[5m])", "sum(a", "a)", "rate(a[5])", "1 + 1", 'a{b="c}', "a ; b"])
def test_what_is_no_promql_is_refused(wrong: str) -> None:
    with pytest.raises((ValueError, StopIteration)):
        named(wrong)
