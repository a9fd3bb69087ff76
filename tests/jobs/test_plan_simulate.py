"""`dr2e plan --simulate`: forecasts from the records of an output, for what is left or for what does not exist yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.plan import command
from pipeline.config import ConfigError
from pipeline.ledger import COUNTS, CommitRecord, StoredObject, commit_name
from pipeline.output import Output
from pipeline.tar import write_shard
from pipeline.units import unit_id

CLUSTER = "--simulate=nodes=4,cpus=8,gpus=1,gpu-price=2"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An output of twelve units of 32 photos, 6 s of Restore each."""
    output = Output(str(tmp_path_factory.mktemp("measured")))
    output.start({"config": {}, "models": {}, "versions": {}})
    for number in range(12):
        unit = unit_id(f"{number}.tar", 0, 1)
        record = CommitRecord(
            unit=unit, attempt="0badcafe", shard=f"{number}.tar", shard_bytes=32_000_000, shard_etag="e",
            part=0, parts=1,
            objects=(StoredObject("shards/a.tar", 48_000_000, "00"),),
            counts={**dict.fromkeys(COUNTS, 0), "photos": 32, "faces": 16}, errors={}, models={},
            seconds={"read": 0.2, "detect": 1.0, "restore": 6.0 + number % 2, "enhance": 0.8, "write": 0.5},
            started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:00:09+00:00",
        )  # fmt: skip
        output.location.put(commit_name(unit), record.to_json())
    return output.location.url


def answer(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_clusters_are_compared_for_a_collection_that_does_not_exist(measured: str) -> None:
    wide = "--simulate=nodes=8,cpus=8,gpus=1,restore-speed=2"
    found = json.loads(answer("--photos=320k", f"--rates={measured}", CLUSTER, wide, "--json"))
    assert (found["measured"], found["source"]) == (12, measured)
    assert "restore takes 72% of all work" in found["profile"]["advice"]
    four, eight = found["forecasts"]
    assert four["photos"] == 320_000 and four["units"] == 10_000 and four["faces"] == 160_000
    assert four["bytes_read"] == 320e9 and four["bytes_written"] == 480e9
    assert four["seconds"] == pytest.approx(10_000 * 6.5 / 4, rel=0.15) and four["slowest"] == "restore"
    assert four["cost"] == pytest.approx(4 * 2 * four["seconds"] / 3600)
    assert eight["cost"] is None and eight["seconds"] < 0.4 * four["seconds"]

    page = answer("--photos=320k", f"--rates={measured}", CLUSTER, wide)
    assert "4 x (8 CPUs, 1 GPU)" in page and "320,000 photos, about 160,000 faces, in 10,000 units" in page
    assert "no price given" in page and "more GPUs" in page and "320.0 GB read, 480.0 GB written" in page
    assert f"rates of 12 units of {measured}" in page


def test_what_is_left_is_foretold_from_what_is_done(measured: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for shard in ("a", "b"):
        write_shard(tmp_path / "in" / f"{shard}.tar", [(f"{shard}{number}.jpg", b"photo") for number in range(50)])
    here = [f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]
    found = json.loads(answer(*here, f"--rates={measured}", CLUSTER, "--json"))
    assert found["photos_left"] == found["simulated"]["forecasts"][0]["photos"] == 100
    assert found["simulated"]["forecasts"][0]["units"] == 4
    assert "simulated" not in json.loads(answer(*here, "--json"))
    assert "\nsimulated  4 x (8 CPUs, 1 GPU)\n" in answer(*here, f"--rates={measured}", CLUSTER)
    with pytest.raises(ConfigError, match=r"out: no unit is committed to take rates from; restore a few units first"):
        CliRunner().invoke(command, [*here, CLUSTER], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--photos=10k",), "--rates and --photos are for --simulate"),
        (("--photos=10k", CLUSTER), "--simulate with --photos needs --rates"),
        (("--photos=ten", CLUSTER, "--rates=x"), "--photos ten: write a number above 0, such as 250000, 10k or 100M"),
        (("--photos=0", CLUSTER, "--rates=x"), "--photos 0: write a number above 0"),
        (("--photos=1k", "--rates=x", "--simulate=nodes=2"), "--simulate nodes=2: cpus is missing"),
        (("--photos=1k", "--rates=nowhere-at-all", CLUSTER), "no unit is committed to take rates from"),
        (("--photos=1k", "--rates=s3://key:hidden@bucket/out", CLUSTER), "--rates: "),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert said in str(error.value) and "\n" not in str(error.value) and "hidden" not in str(error.value)


def test_the_command_line_answers_with_one_line_and_code_2() -> None:
    code = [sys.executable, "-c", "from jobs.cli import main; main()", "plan", "--photos", "1M", "--simulate", "cpus=4"]
    result = subprocess.run(code, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "dr2e: --simulate cpus=4: nodes is missing\n"
