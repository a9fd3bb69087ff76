"""`dr2e retry`: what was rejected is done again, joins the output, and still counts once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile

import pytest
from PIL import Image

from jobs.api import restore
from jobs.retry import retry
from pipeline.config import ConfigError, load
from pipeline.output import Output
from pipeline.report.gather import gather
from pipeline.run import RunMismatch
from pipeline.storage import Location
from pipeline.tar import write_shard
from pipeline.unpacking import unpack

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; Ray starts slowly on a busy one


@pytest.fixture(scope="module")
def refused(tmp_path_factory, photographs, cluster, quick):
    """An output of five photos and a tar that is cut; two photos are too large for the run's limits, one is none."""
    folder = tmp_path_factory.mktemp("refused")
    shards = folder / "shards"
    shards.mkdir()
    members = [("a.jpg", photographs[2]), ("b.jpg", photographs[0]), ("b.txt", b"caption"), ("c.jpg", b"no photo")]
    write_shard(shards / "x.tar", [*members, ("d.jpg", photographs[2]), ("e.jpg", photographs[3])])
    write_shard(folder / "whole.tar", [("f.jpg", photographs[2])])
    (shards / "cut.tar").write_bytes((folder / "whole.tar").read_bytes()[:2048])
    pixels = Image.open(io.BytesIO(photographs[2])).size
    limits = f"limits.max_pixels={pixels[0] * pixels[1]}"
    config = load(None, [*quick, limits], {"input": str(shards), "output": str(folder / "out")})
    summary = restore(config, progress=io.StringIO())
    assert summary.status.errors == {
        "image.too_large": 2,
        "image.unreadable": 1,
        "sample.cut": 1,
        "shard.truncated": 1,
    }
    return folder / "out"


def rows(output: Output) -> dict[str, dict]:
    found = [output.rows(history, ["key", "status", "error", "restored_name"]) for history in output.histories()]
    listed = [row for unit in found for _, table in unit for row in table.to_pylist()]
    assert len({row["key"] for row in listed}) == len(listed), "a photo counts twice"
    return {row["key"]: row for row in listed}


def test_a_retry_joins_the_output_and_each_photo_counts_once(refused, cluster, tmp_path):
    before = {entry.name: entry.etag for entry in Output(refused).location.entries() if entry.name != "report.html"}
    dry = subprocess.run(
        [sys.executable, "-c", "from jobs.cli import main; main()", "retry", str(refused), "--dry-run", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(dry.stdout)
    assert told["tried"] == {"image.too_large": 2, "image.unreadable": 1}
    assert told["unknown"] == {"sample.cut": 1, "shard.truncated": 1}

    first = retry(str(refused), ["image.too_large"], ["limits.max_pixels=1000000"], progress=io.StringIO())
    assert (first.tried, first.restored, first.rejected) == ({"image.too_large": 2}, 2, 0)
    assert first.left_out == {"image.unreadable": 1, "sample.cut": 1, "shard.truncated": 1}
    second = retry(str(refused), progress=io.StringIO())
    assert (second.tried, second.restored, second.rejected) == ({"image.unreadable": 1}, 0, 1)

    output = Output(refused)
    status = output.status()
    assert status.counts["photos"] == 7 and status.counts["restored"] == 4 and status.counts["rejected"] == 3
    assert status.errors == {"image.unreadable": 1, "sample.cut": 1, "shard.truncated": 1}
    assert status.units_open == 0
    assert output.verify() == []
    found = rows(output)
    assert {key for key, row in found.items() if row["status"] == "restored"} == {"a", "b", "d", "e"}
    facts = gather(output)
    assert facts.photos == {"restored": 4, "rejected": 3} and facts.reasons == status.errors
    after = {entry.name: entry.etag for entry in output.location.entries()}
    assert {name: after[name] for name in before} == before, "what was committed has changed"

    retried = [record for record in output.records() if record.replaced]
    assert {name for record in retried for name in record.settings} == {"limits.max_pixels"}
    with tarfile.open(refused / retried[0].object("shards").name) as archive:
        assert archive.extractfile("b.txt").read() == b"caption"
    counts = unpack(output, Location(tmp_path / "photos"))
    assert (counts.restored, counts.rejected) == (4, 3)
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["a.png", "b.png", "d.png", "e.png"]


def test_the_same_restore_still_finds_the_run_complete(refused, cluster, quick):
    limits = Output(refused).run()["config"]["limits"]["max_pixels"]
    settings = [*quick, f"limits.max_pixels={limits}"]
    config = load(None, settings, {"input": str(refused.parent / "shards"), "output": str(refused)})
    assert restore(config, progress=io.StringIO()).was_complete


def test_a_retry_with_other_settings_is_refused(refused, tmp_path):
    with pytest.raises(RunMismatch, match="seed was 0, is 5"):
        retry(str(refused), assignments=["seed=5"])
    with pytest.raises(ConfigError, match="no run was started here"):
        retry(str(tmp_path))
