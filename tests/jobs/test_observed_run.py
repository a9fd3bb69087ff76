"""One run from and to S3, and all that watches it: its metrics are scraped, its log is JSON, its events are kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from promql import named
from servers import S3, free_ports

from jobs.deployment.grafana import expressions
from pipeline.events.kinds import EVENTS, Progressed
from pipeline.events.label import label_of
from pipeline.metrics.names import METRICS, STAGE_PHOTOS, Metric
from pipeline.output import Output
from pipeline.storage import Location

CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary/of+the+environment",
    "AWS_SESSION_TOKEN": "canary-of-a-session",
    "HF_TOKEN": "canary-of-a-hub",
}

ONLY_WITH_A_GPU = {"ray_node_gpus_utilization", "ray_node_gram_used"}

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<tags>.*)\})? (?P<value>\S+)")
_TAG = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Scraped:
    """What a port said as long as it answered. latest: value by name and tags, of the last answer that had it: Ray's
    gauges come and go. text: all answers."""

    latest: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)

    def take(self, text: str) -> None:
        self.text.append(text)
        for line in text.splitlines():
            if match := _SAMPLE.fullmatch(line):
                tags = frozenset(_TAG.findall(match["tags"] or ""))
                self.latest[match["name"], tags] = float(match["value"])

    def tags(self) -> dict[str, set[str]]:
        """The tags of each name."""
        found: dict[str, set[str]] = defaultdict(set)
        for name, tags in self.latest:
            found[name] |= {tag for tag, _ in tags}
        return found

    def sums(self, metric: Metric, by: str = "") -> dict[str, float]:
        """Its values by one of its tags, summed over processes, without what is 0."""
        found = Counter[str]()
        for (name, tags), value in self.latest.items():
            if name == metric.exported:
                found[dict(tags).get(by, "")] += value
        return {tag: value for tag, value in found.items() if value}


@dataclass(frozen=True)
class Ran:
    """answer, log, events: standard output, lines of standard error and of the file. traces: what else it wrote to."""

    answer: Any
    log: list[dict[str, Any]]
    events: list[dict[str, Any]]
    scraped: Scraped
    output: Output
    traces: Path


@pytest.fixture(scope="module")
def ran(s3: S3, collection: Path, quick: list[str]) -> Iterator[Ran]:
    traces = Path(tempfile.mkdtemp(prefix="dr2e-"))  # Ray's sockets need a short path
    options, events, (port,) = traces / "options.json", traces / "events.jsonl", free_ports(1)
    place = Location(s3.folder(), s3.options)
    for shard in collection.iterdir():
        place.put(f"in/{shard.name}", shard)
    options.write_text(json.dumps(s3.options))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    environment |= {**CANARIES, "RAY_TMPDIR": str(traces / "ray"), "TMPDIR": str(traces)}
    environment["RAY_metrics_report_interval_ms"] = "1000"
    arguments = ["--log-format", "json", "restore", "--json", "--storage-options", f"@{options}"]
    arguments += ["--input", f"{place.url}/in", "--output", f"{place.url}/out", "--events", str(events)]
    arguments += ["--metrics-port", str(port), "--set=resources.metrics_stay_seconds=4"]
    arguments += [f"--set={setting}" for setting in quick]
    (traces / "ray").mkdir()
    scraped = Scraped()
    try:
        with (traces / "log").open("w+") as log:
            started = [sys.executable, "-c", "from jobs.cli import main; main()", *arguments]
            process = subprocess.Popen(started, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
            while process.poll() is None:
                with suppress(OSError):
                    url = f"http://127.0.0.1:{port}/metrics"
                    scraped.take(urllib.request.urlopen(url, timeout=5).read().decode())
                time.sleep(0.5)
            log.seek(0)
            said = log.read()
        assert process.returncode == 3, said
        options.unlink()
        assert process.stdout is not None
        lines = [[json.loads(line) for line in text.splitlines()] for text in (said, events.read_text())]
        answer = json.loads(process.stdout.read())
        yield Ran(answer, *lines, scraped, Output(f"{place.url}/out", s3.options), traces)
    finally:
        shutil.rmtree(traces, ignore_errors=True)


def by_name(metrics: tuple[Metric, ...] = METRICS) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def test_what_is_counted_is_what_the_records_say(ran: Ran) -> None:
    records, counts, scraped = list(ran.output.records()), Counter[str](), ran.scraped
    for record in records:
        counts.update(record.counts)
    of = {name: scraped.sums(metric, metric.tags[-1]) for name, metric in by_name().items()}
    assert of["dr2e_photos_total"] == {"restored": counts["restored"], "rejected": counts["rejected"]}
    assert of["dr2e_faces_total"] == {"restored": counts["faces_restored"]}
    assert of["dr2e_rejected_total"] == {code: count for record in records for code, count in record.errors.items()}
    assert of["dr2e_commits_total"] == {"committed": len(records)}
    total = {name: sum(scraped.sums(metric).values()) for name, metric in by_name().items()}
    assert total["dr2e_evaluations_total"] == total["dr2e_committed_evaluations_total"] == counts["evaluations"] > 0
    assert total["dr2e_batch_rows_total"] >= total["dr2e_evaluations_total"]
    assert total["dr2e_written_bytes_total"] == sum(item.bytes for record in records for item in record.objects)
    assert total["dr2e_committed_input_bytes_total"] == sum(record.shard_bytes / record.parts for record in records)
    assert total["dr2e_rounds_total"] == 1 and total["dr2e_left_bytes"] == 0
    pending = dict.fromkeys(("restore", "enhance"), counts["photos"] - counts["rejected"])
    everything = dict.fromkeys(("read", "detect", "commit"), counts["photos"])
    assert scraped.sums(STAGE_PHOTOS, "stage") == {**everything, **pending}


def test_every_metric_is_scraped_with_its_tags_and_no_others(ran: Ran) -> None:
    found = ran.scraped.tags()
    of_ray = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId", "le"}
    ours = {name for metric in METRICS for name in metric.series}
    assert {name for name in found if name.startswith("ray_dr2e")} == ours
    for metric in METRICS:
        for name in metric.series:
            tags = {tag for tag in found[name] if not tag.startswith("otel_scope_")}
            assert tags - of_ray == set(metric.tags), name
    runs = {dict(tags)["run"] for name, tags in ran.scraped.latest if name in ours}
    assert runs == {label_of(ran.output.location.url)}


def test_the_dashboard_and_the_alerts_name_what_there_is(ran: Ran) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    found = ran.scraped.tags()
    for name in ONLY_WITH_A_GPU - found.keys():  # by Ray's own word
        assert name.removeprefix("ray_") in METRICS_GAUGES
        found[name] = {"GpuIndex"}
    for expression in expressions():
        what = named(expression)
        assert what.metrics <= found.keys(), expression
        # Prometheus adds the instance.
        assert what.labels <= {"instance"}.union(*(found[name] for name in what.metrics)), expression


def test_the_events_are_kept_as_they_happened(ran: Ran) -> None:
    events = ran.events
    records = {record.unit: record for record in ran.output.records()}
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["run_began", "round_began"] and kinds[-1] == "run_ended"
    assert Counter(kinds) == {
        "run_began": 1,
        "round_began": 1,
        "unit_committed": len(records),
        "photo_rejected": 1,
        "run_ended": 1,
    }
    for event in events:
        assert {"time", "level", "run", "event", "unit", "key", "message"} <= event.keys()
        assert event["run"] == label_of(ran.output.location.url)
        if event["event"] == "unit_committed":
            counts = records.pop(event["unit"]).counts
            for name in ("photos", "faces", "rejected", "evaluations"):
                assert event[name] == counts[name]
        if event["event"] == "photo_rejected":
            assert (event["key"], event["code"]) == ("p5", "image.unreadable")
    assert not records
    assert (events[-1]["outcome"], events[-1]["photos"], events[-1]["rejected"]) == ("complete", 6, 1)


def test_the_log_is_json_to_the_last_line_and_the_answer_stays_what_it_is(ran: Ran) -> None:
    names = {kind.name() for kind in EVENTS} | {"log"}
    assert {line["event"] for line in ran.log} <= names
    assert [line for line in ran.log if line["event"] not in (Progressed.name(), "log")] == ran.events
    (last,) = [line for line in ran.log if line["event"] == Progressed.name()][-1:]
    assert (last["done"], last["photos"], last["faces"]) == (1.0, 6, 5)
    assert ran.answer["status"]["counts"]["photos"] == 6


def test_a_secret_is_in_no_metric_no_event_and_no_log(ran: Ran, s3: S3) -> None:
    written = {str(path.relative_to(ran.traces)): path.read_bytes() for path in ran.traces.rglob("*") if path.is_file()}
    assert {"log", "events.jsonl"} <= written.keys()
    assert any(name.endswith("ray-data.log") for name in written), "these are not Ray's logs"
    written["metrics"] = "\n".join(ran.scraped.text).encode()
    assert b"ray_dr2e_photos_total" in written["metrics"]
    for secret in (*CANARIES.values(), s3.secret, s3.key):
        assert [name for name, data in written.items() if secret.encode() in data] == []
