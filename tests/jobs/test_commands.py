"""The command line around a run: help, plan, status, verify, and what becomes of errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs import cli, plan, restore, status, verify
from jobs.options import parse_storage
from pipeline.config import ConfigError


def answer(command, *arguments: str, code: int = 0):
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def plan_of(collection: Path, output: Path, quick: list[str]) -> dict:
    settings = [f"--set={setting}" for setting in quick]
    return json.loads(answer(plan.command, f"--input={collection}", f"--output={output}", *settings, "--json"))


def test_help_lists_every_command_and_loads_none():
    code = "import sys, jobs.cli\ntry: jobs.cli.main()\nfinally: print('torch' in sys.modules, 'ray' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    for name in cli._COMMANDS:
        assert f"\n  {name} " in result.stdout
    assert result.stdout.endswith("False False\n")


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_every_command_is_there_and_explains_itself(name):
    assert answer(cli.command, name, "--help").startswith("Usage: ")


def test_an_error_of_ours_that_is_not_the_users_keeps_its_traceback(monkeypatch, capsys):
    def broken(**_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "command", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.FAILED
    told = capsys.readouterr().err
    assert told.startswith("Traceback") and told.endswith("ZeroDivisionError: a bug\n")


def test_plan_counts_what_is_left_and_starts_nothing(collection, finished, quick, tmp_path):
    fresh = plan_of(collection, tmp_path / "fresh", quick)
    assert (fresh["shards"], fresh["shards_done"], fresh["units_done"], fresh["photos_left"]) == (2, 0, 0, 6)
    assert fresh["bytes_left"] == sum(shard.stat().st_size for shard in collection.iterdir())
    assert fresh["evaluations_left"] is None
    assert "no rates yet" in fresh["basis"]
    assert not (tmp_path / "fresh").exists()

    done = plan_of(collection, finished, quick)
    assert (done["complete"], done["photos_left"], done["seconds_left"]) == (True, 0, 0)


def test_plan_projects_from_what_is_done(collection, finished, quick, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(finished, half)
    for record in (half / "commits").glob("photos-001*"):
        record.unlink()
    left = plan_of(collection, half, quick)
    before = json.loads(answer(status.command, str(half), "--json"))
    assert (left["shards_done"], left["photos_left"]) == (1, 3)
    assert left["evaluations_left"] == pytest.approx(
        before["counts"]["evaluations"], rel=0.01
    )  # 3 photos as the other 3
    assert left["seconds_left"] > 0


def test_plan_counts_images_without_packing_them(photographs, quick, tmp_path):
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(photographs):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(photo)
    found = plan_of(tmp_path / "photos", tmp_path / "out", quick)
    assert (found["photos_left"], found["bytes_left"]) == (5, sum(map(len, photographs)))
    assert not (tmp_path / "out").exists()


def test_restore_answers_a_program_in_json(collection, finished, quick):
    settings = [f"--set={setting}" for setting in quick]
    said = answer(restore.command, f"--input={collection}", f"--output={finished}", *settings, "--json", code=3)
    summary = json.loads(said)
    assert (summary["was_complete"], summary["report"]) == (True, f"{finished}/report.html")
    assert summary["status"]["errors"] == {"image.unreadable": 1}


def test_status_is_a_page_that_shows_what_is_hostile_as_text(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (line, *_) = sorted((copy / "executions").iterdir())
    told = {**json.loads(line.read_text()), "outcome": "failed", "reason": "<script>alert(1)</script>"}
    line.write_text(json.dumps(told))
    page = tmp_path / "page.html"
    assert answer(status.command, str(copy), "--html", str(page)) == ""
    html = page.read_text()
    assert "<td><code>image.unreadable</code></td>" in html and "<dt>photos</dt><dd>6</dd>" in html
    assert "failed: &lt;script&gt;alert(1)&lt;/script&gt;" in html and "<script" not in html
    assert answer(status.command, str(copy), "--html", "-").startswith("<!doctype html>")
    with pytest.raises(ConfigError, match=r"--html .*nowhere"):
        CliRunner().invoke(
            status.command, [str(copy), "--html", str(tmp_path / "nowhere" / "p")], catch_exceptions=False
        )


def test_status_counts_and_verify_finds_damage(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    said = answer(status.command, str(copy))
    assert "6: 5 restored, 0 without a face, 1 quarantined" in said
    assert "progress     complete, 100.0% of the input's bytes" in said
    assert "0 findings" in answer(verify.command, str(copy))

    shard = next((copy / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    found = json.loads(answer(verify.command, str(copy), "--json", code=1))["findings"]
    assert [(finding["subject"], finding["code"]) for finding in found] == [(f"shards/{shard.name}", "object.changed")]


def test_storage_options_come_as_json_or_from_a_file_and_are_never_shown(tmp_path):
    file = tmp_path / "options.json"
    file.write_text('{"secret": "hunter2"}')
    assert parse_storage(f"@{file}") == parse_storage('{"secret": "hunter2"}') == {"secret": "hunter2"}
    assert parse_storage(None) == {}
    for wrong in ("{secret: hunter2}", '["hunter2"]', f"@{tmp_path}/gone"):
        with pytest.raises(ConfigError) as caught:
            parse_storage(wrong)
        assert "hunter2" not in str(caught.value)
