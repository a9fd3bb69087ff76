"""`dr2e history`: a line per execution, also of one that had nothing to do and of one whose input lost a shard."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.history import command
from jobs.plan import plan
from jobs.restore import restore
from pipeline.config import ConfigError, load
from pipeline.ledger import EXECUTIONS
from pipeline.output import Output
from pipeline.units import ShardChanged


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A finished run, copied; what other tests have done to it is forgotten."""
    copy = Path(shutil.copytree(finished, tmp_path / "out"))
    for path in (copy / EXECUTIONS).iterdir():
        if not json.loads(path.read_text())["new_shards"]:
            path.unlink()
    return copy


def said(output: Path, *options: str) -> str:
    result = CliRunner().invoke(command, [str(output), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_every_execution_leaves_a_line(output: Path, collection: Path, quick: list[str], tmp_path: Path) -> None:
    counts = Output(output).status().counts
    (first,) = json.loads(said(output, "--json"))
    assert first["outcome"] == "complete" and first["work"] == "restoring" and first["seconds"] > 0
    assert (first["shards"], first["new_shards"], first["gone"]) == (2, 2, 0)
    assert {name: first[name] for name in ("photos", "faces", "rejected")} == {
        name: counts[name] for name in ("photos", "faces", "rejected")
    }

    shrunk = tmp_path / "in"
    shrunk.mkdir()
    shard = sorted(collection.glob("*.tar"))[0]
    shutil.copy2(shard, shrunk)
    config = load(None, quick, {"input": str(shrunk), "output": str(output)})
    assert plan(config).shards_gone == 1
    assert restore(config, progress=io.StringIO()).was_complete
    assert Output(output).status().counts == counts, "what a shard gave stays when it goes"
    second = json.loads(said(output, "--json"))[-1]
    assert (second["outcome"], second["shards"], second["new_shards"], second["gone"]) == ("complete", 1, 0, 1)

    head, *lines = said(output).splitlines()
    assert head.split()[:2] == ["began", "work"] and len(lines) == 2
    assert len(said(output, "--last", "1").splitlines()) == 2


def test_what_was_killed_has_no_end(output: Path) -> None:
    (path,) = (output / EXECUTIONS).iterdir()
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "ended": None, "outcome": None}))
    assert "not ended: it is at work, or was killed" in said(output)


def test_where_no_run_was_started_there_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run was started here"):
        said(tmp_path)


@pytest.mark.slow
def test_a_shard_that_changed_is_done_anew_when_that_is_asked_for(
    output: Path, collection: Path, quick: list[str], tmp_path: Path
) -> None:
    grown = Path(shutil.copytree(collection, tmp_path / "in"))
    first, second = sorted(grown.glob("*.tar"))
    with tarfile.open(second) as old, tarfile.open(first, "a") as shard:
        name = next(member for member in old if member.name.endswith((".jpg", ".png")))
        renamed = tarfile.TarInfo(f"added{Path(name.name).suffix}")
        renamed.size = name.size
        shard.addfile(renamed, old.extractfile(name))
    photos = Output(output).status().counts["photos"]
    overrides = {"input": str(grown), "output": str(output)}
    with pytest.raises(ShardChanged, match="--set changed=redo"):
        restore(load(None, quick, overrides))
    config = load(None, [*quick, "changed=redo"], overrides)
    assert plan(config).shards_changed == 1
    assert not restore(config, progress=io.StringIO()).was_complete
    assert Output(output).status().counts["photos"] == photos + 1
    assert Output(output).verify() == []
    last = json.loads(said(output, "--json"))[-1]
    assert (last["outcome"], last["new_shards"], last["changed"]) == ("complete", 1, 1)
    assert restore(load(None, quick, overrides), progress=io.StringIO()).was_complete
