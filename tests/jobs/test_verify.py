"""`dr2e verify` as a person and a program see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.benchmarks.outputs import make_output
from jobs.verify import command
from pipeline.storage import Location


@pytest.fixture
def output(tmp_path: Path) -> Path:
    make_output(Location(tmp_path / "out"), units=12, photos=3, photo_bytes=2000)
    return tmp_path / "out"


def _run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def _damage(output: Path) -> Path:
    shard = sorted((output / "shards").iterdir())[3]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    return shard


def test_a_whole_output_is_well_and_shows_progress(output: Path) -> None:
    result = _run(output)
    assert result.stdout.startswith("12 of 12 units read back, ") and "0 findings" in result.stdout
    assert "12/12" in result.stderr and "MB/s" in result.stderr


def test_findings_come_with_what_to_do(output: Path) -> None:
    shard = _damage(output)
    result = _run(output, code=1)
    finding, remedy, summary = result.stdout.splitlines()
    assert finding.startswith(f"shards/{shard.name}: sha256 ") and finding.endswith("(object.changed)")
    assert remedy.strip().startswith("to do: if a copy has ") and f"delete {output}/commits/" in remedy
    assert "1 findings" in summary


def test_json_is_all_there_is(output: Path) -> None:
    _damage(output)
    result = _run(output, "--json", code=1)
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    assert (answer["units"], answer["read"], answer["read_before"], answer["sampled"]) == (12, 12, 0, False)
    assert answer["bytes"] > 12 * 2 * 2000 and answer["seconds"] > 0
    (finding,) = answer["findings"]
    assert set(finding) == {"subject", "code", "message", "remedy"}


def test_a_sample_says_that_it_is_one(output: Path) -> None:
    said = _run(output, "--sample", "5").stdout
    assert said.startswith("5 of 12 units read back, ") and "run without --sample to read all" in said
    assert _run(output, "--sample", "10%").stdout.startswith("2 of 12 units")
    shard = _damage(output)
    codes = {seed: CliRunner().invoke(command, [str(output), "--sample=4", f"--seed={seed}"]) for seed in range(12)}
    found = [seed for seed, result in codes.items() if result.exit_code == 1]
    assert 0 < len(found) < 12, "other seeds, other units"
    assert all(shard.name in codes[seed].stdout for seed in found)
    for wrong in ("0", "200%", "some"):
        assert "is no sample" in _run(output, "--sample", wrong, code=2).stderr


def test_a_journal_goes_on_where_it_stopped(output: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    _run(output, "--journal", journal, "--sample", "7")
    answer = json.loads(_run(output, "--journal", journal, "--json").stdout)
    assert (answer["read"], answer["read_before"]) == (5, 7)
    assert "12 of these were read before" in _run(output, "--journal", journal).stdout


def test_what_cannot_be_checked_exits_2(output: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine\n")
    for arguments, said in (
        ([tmp_path / "nowhere"], "no run was started here"),
        ([output, "--journal", tmp_path / "notes"], "name another file"),
        ([output, "--sample", "x"], "is no sample"),
    ):
        line = [sys.executable, "-c", "from jobs.cli import main; main()", "verify", *map(str, arguments)]
        result = subprocess.run(line, capture_output=True, text=True, check=False)
        assert result.returncode == 2 and said in result.stderr and "Traceback" not in result.stderr
