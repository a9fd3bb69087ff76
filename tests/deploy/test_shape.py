"""The shape of a cluster: what it refuses, and 'dr2e deploy kuberay', which writes manifests of it."""

import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from jobs.deploy import command
from jobs.deployment.shape import RAY, Shape, read
from pipeline.config import ConfigError

ROOT = Path(__file__).parents[2]


def test_it_names_the_pinned_versions() -> None:
    assert f"ray=={RAY}" in (ROOT / "constraints.txt").read_text().splitlines()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert Shape().image.endswith(f"/dr2e:{version}")


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("gpu.number=8", "gpu.number: Extra inputs are not permitted"),
        ("gpu.count=0", "gpu.count"),
        ("gpu", "write it as"),
        ("gpu.count.x=1", "gpu.count: Input should be a valid integer"),
        ("image.tag=1", "Input should be a valid string"),
        ("gpu=[", "not readable"),
        ("image=registry.example.org/dr2e", "needs a tag"),
        ("image=registry.example.org/dr2e:latest", "needs a tag"),
        ("image=localhost:5000/dr2e", "needs a tag"),
        ("input=s3://KEY:SECRET@archive/shards", "input"),
        ("output=s3://archive/$(id)", "shell"),
        ("output=s3://archive/it's", "shell"),
        ("settings=['restore.n=4; id']", "shell"),
        ("name=Restore", "name"),
        ("schedule.cron=daily", "schedule.cron"),
    ],
)
def test_what_makes_no_sense_is_refused(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        read(assignments=[assignment])


def test_a_group_may_change_in_part(tmp_path: Path) -> None:
    file = tmp_path / "shape.yaml"
    file.write_text("gpu: {count: 8}\nhead: {cpus: 15}\n")
    shape = read(file, ["gpu.node_selector={cloud.google.com/gke-spot: 'true'}", "storage_secret=null"])
    assert (shape.gpu.count, shape.gpu.cpus, shape.head.cpus) == (8, Shape().gpu.cpus, 15)
    assert shape.gpu.node_selector == {"cloud.google.com/gke-spot": "true"}
    assert shape.cpu == Shape().cpu


def test_a_file_that_is_no_shape_is_refused_in_one_line(tmp_path: Path) -> None:
    for text in ("[1]", "a: ["):
        (tmp_path / "shape.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"^.*$"):
            read(tmp_path / "shape.yaml")


def test_the_command_writes_what_was_asked_for(tmp_path: Path) -> None:
    arguments = [
        "kuberay",
        "--out",
        str(tmp_path / "manifests"),
        "--set",
        "gpu.count=8",
        "--set",
        "storage_secret=null",
    ]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    written = {Path(line).name for line in result.output.splitlines()}
    assert written == {"common.yaml", "rayjob.yaml", "raycronjob.yaml", "cronjob.yaml"}
    job = yaml.safe_load((tmp_path / "manifests" / "rayjob.yaml").read_text())
    gpu = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]
    assert (gpu["replicas"], gpu["minReplicas"], gpu["maxReplicas"]) == (8, 8, 8)
    assert "envFrom" not in gpu["template"]["spec"]["containers"][0]
