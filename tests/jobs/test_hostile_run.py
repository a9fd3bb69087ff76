"""One real run over S3: names that are markup, and a secret that must be nowhere afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from servers import S3

from pipeline.storage import Location
from pipeline.tar import write_shard

pytestmark = pytest.mark.timeout(900)  # half a minute on an idle machine

SCRIPT, ATTRIBUTE = "<script>alert(1)</script>", 'a"onmouseover=x<b>'
MARKUP = b"<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Ran:
    """A finished run. said: to standard output and standard error; output: where; traces: what else it wrote to."""

    said: bytes
    output: Location
    traces: Path


@pytest.fixture(scope="module")
def ran(s3: S3, photographs: list[bytes], quick: list[str]) -> Iterator[Ran]:
    traces = Path(tempfile.mkdtemp(prefix="dr2e-"))  # Ray's sockets need a short path
    shard, options = traces / "in.tar", traces / "options.json"
    write_shard(shard, [(f"{SCRIPT}.jpg", photographs[2]), (f"{ATTRIBUTE}.png", MARKUP)])
    place = Location(s3.folder(), s3.options)
    place.put("in.tar", shard)
    options.write_text(json.dumps(s3.options))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    # Ray's own folder, with the most that it can be made to write there.
    environment |= {"RAY_TMPDIR": str(traces / "ray"), "TMPDIR": str(traces), "RAY_enable_export_api_write": "1"}
    arguments = ["restore", "--input", f"{place.url}/in.tar", "--output", f"{place.url}/out"]
    arguments += ["--storage-options", f"@{options}", *(f"--set={setting}" for setting in quick)]
    (traces / "ray").mkdir()
    try:
        answer = subprocess.run(
            [sys.executable, "-c", "from jobs.cli import main; main()", *arguments],
            env=environment,
            capture_output=True,
            check=False,
        )
        assert answer.returncode == 3, answer.stderr.decode()
        options.unlink()
        yield Ran(answer.stdout + answer.stderr, place.child("out"), traces)
    finally:
        shutil.rmtree(traces, ignore_errors=True)


def test_a_secret_is_in_no_output_no_log_and_no_temporary_file(ran: Ran, s3: S3) -> None:
    written = {entry.name: ran.output.read(entry.name) for entry in ran.output.entries()}
    for path in ran.traces.rglob("*"):
        if path.is_file():
            written[str(path.relative_to(ran.traces))] = path.read_bytes()
    assert any(name.endswith("ray-data.log") for name in written), "these are not Ray's logs"
    assert any("EXPORT_DATASET_METADATA" in name and b"pipeline.stages.Restore" in written[name] for name in written)
    assert {"run.json", "report.html"} <= written.keys()
    for secret in (s3.secret.encode(), s3.key.encode()):
        assert secret not in ran.said
        assert [name for name, data in written.items() if secret in data] == []


def test_markup_in_names_and_errors_is_text_in_the_report(ran: Ran) -> None:
    html = ran.output.read("report.html").decode()
    page = Page(html)
    assert "<script" not in html.lower()
    assert SCRIPT in page.text and ATTRIBUTE in page.text and "<img src=x" in page.text
    assert "script" not in page.tags and "b" not in page.tags
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    loads = [value for name, value in page.attributes if name in {"src", "href", "srcset", "data", "action", "style"}]
    assert loads and all(value.startswith(("data:image/jpeg;base64,", "#", "width:")) for value in loads)


class Page(HTMLParser):
    """Tags, attributes and text, as a browser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data
