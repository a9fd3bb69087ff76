"""`dr2e restore` of whole photographs, larger, from end to end with every stage real."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from upscalers import compact

from jobs.api import restore
from operators.images import decode
from pipeline.config import load
from pipeline.output import Output
from pipeline.storage import Location
from pipeline.unpacking import unpack

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; Ray starts slowly on a busy one


@pytest.mark.slow
def test_a_run_writes_every_photo_larger_by_a_network(tmp_path: Path, collection: Path, cluster: str, quick: list[str]):
    settings = [*quick, "write.upscale=2", f"write.upscaler={compact(tmp_path / 'tiny.pth')}", "write.tile=128"]
    config = load(None, settings, {"input": str(collection), "output": str(tmp_path / "out")})
    summary = restore(config, progress=io.StringIO())
    assert summary.status.counts["photos"] == 6 and summary.status.counts["rejected"] == 1
    output = Output(tmp_path / "out")
    assert output.verify() == []
    rows = [row for record in output.records() for row in output.manifest(record).to_pylist()]
    written = [row for row in rows if row["status"] != "rejected"]
    assert {row["restored_scale"] for row in written} == {2}
    unpack(output, Location(str(tmp_path / "files")))
    for row in written:
        picture = decode((tmp_path / "files" / f"{row['key']}.png").read_bytes())
        assert picture.pixels.shape == (2 * row["height"], 2 * row["width"], 3)
        assert picture.grey == row["grey"]
    assert "enlarge" in next(iter(output.records())).seconds
    again = restore(config, progress=io.StringIO())
    assert again.status.counts == summary.status.counts
