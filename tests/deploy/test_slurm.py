"""The batch script for Slurm, run to its end with scripts in place of Slurm, Ray and dr2e."""

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from jobs.deployment.shape import Shape
from jobs.restore import command as restore

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "restore.sbatch"

STAND_INS = {
    # A step of Slurm's lasts until it is killed.
    "srun": 'echo "srun $*" >> "$HOME/calls"; exec sleep 60',
    "ray": 'echo "ray $*" >> "$HOME/calls"; [ "$1" != get-auth-token ] || echo token > "$HOME/.ray/auth_token"',
    # The nodes that are there: none before both steps have begun.
    "python": """until [ "$(grep -c '^srun ' "$HOME/calls")" -ge 2 ]; do sleep 0.05; done; echo 4""",
    "scontrol": 'echo "scontrol $*" >> "$HOME/calls"',
    "hostname": "echo 10.0.0.1",
    # Ends at once with the code in a file, else works until it is told to end.
    "dr2e": """echo "dr2e $*" >> "$HOME/calls"
        [ ! -e "$HOME/code" ] || exit "$(cat "$HOME/code")"
        trap 'exit 143' TERM; touch "$HOME/working"; while :; do sleep 0.05; done""",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".ray").mkdir()
    (tmp_path / "bin").mkdir()
    for name, body in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def start(home: Path) -> subprocess.Popen:
    slurm = {"SLURM_JOB_NUM_NODES": "4", "SLURMD_NODENAME": "n1", "SLURM_CPUS_PER_TASK": "7", "SLURM_JOB_ID": "17"}
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "DR2E_BIN": str(home / "bin"), **slurm}
    return subprocess.Popen(["bash", SCRIPT, "s3://in", "s3://out", "--n", "4", "--tau", "280"], env=environment)


def calls(home: Path, program: str) -> list[str]:
    lines = (home / "calls").read_text().splitlines()
    return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]


def until_working(home: Path) -> None:
    deadline = time.monotonic() + 30
    while not (home / "working").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("code", "passed_on"), [(0, 0), (3, 0), (1, 1), (2, 2)])
def test_it_ends_as_the_driver_does(code: int, passed_on: int, home: Path) -> None:
    (home / "code").write_text(str(code))
    assert start(home).wait(30) == passed_on
    assert not calls(home, "scontrol")
    head, workers = sorted(calls(home, "srun"), key=lambda line: "--head" not in line)
    assert "--nodes=1 " in head and "--nodelist=n1 " in head
    assert "--nodes=3 " in workers and "--exclude=n1 " in workers and "--address=10.0.0.1:6379" in workers
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_the_driver_is_called_as_dr2e_can_be(home: Path) -> None:
    (home / "code").write_text("0")
    start(home).wait(30)
    (line,) = calls(home, "dr2e")
    command, *words = line.split()
    context = restore.make_context(command, words)
    assert context.params["address"] == "10.0.0.1:6379"
    assert (context.params["n"], context.params["tau"]) == (4, 280)


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, ["requeue 17"]), (signal.SIGTERM, [])])
def test_only_the_end_of_its_time_brings_it_back(number: int, requeued: list[str], home: Path) -> None:
    job = start(home)
    until_working(home)
    job.send_signal(number)
    assert job.wait(30) == 143
    assert calls(home, "scontrol") == requeued


def test_it_parses() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--shell=bash", SCRIPT], check=True)


def test_it_asks_slurm_for_the_machines_of_the_shape() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", SCRIPT.read_text(), re.MULTILINE))
    gpu = Shape().gpu
    assert int(asked["nodes"]) == gpu.count
    assert int(asked["cpus-per-task"]) == gpu.cpus
    assert asked["mem"] == f"{gpu.memory_gib}G"
    assert int(asked["gpus-per-node"]) == gpu.gpus
    assert asked["signal"] == "B:USR1@120"
