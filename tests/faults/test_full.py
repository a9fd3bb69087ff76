"""Disks, object stores and servers that are full: a clear error, and a run that goes on once there is room."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from servers import SeaweedFS, free_ports

from faults.collection import SETTINGS, shards
from faults.sabotage import SOURCE, run_dr2e
from pipeline.output import Output
from pipeline.tar import write_shard

ALONE = ["unshare", "--user", "--map-root-user", "--mount"]  # where anybody may mount
OPTIONS = [f"--set={setting}" for setting in SETTINGS if not setting.startswith("storage")]

can_mount = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], capture_output=True).returncode != 0,
    reason="needs Linux with user namespaces, to mount a small disk",
)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in shards().items():
        (folder / name).write_bytes(data)
    return folder


def alone(script: str, cwd: Path, **variables: object) -> str:
    """What a shell script prints that runs where it may mount; DR2E is the command. It must succeed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SOURCE), str(SOURCE / "tests")]),
        "RAY_AUTH_MODE": "disabled",  # a token of the user's would be asked for by what is started here
        "OMP_NUM_THREADS": "1",
        "BIN": str(Path(sys.executable).parent),
        **{name: str(value) for name, value in variables.items()},
    }
    start = 'dr2e() { "$BIN/python" -c \'from jobs.cli import main; main()\' "$@" 2>&1; }\n'
    command = [*ALONE, "bash", "-euc", start + script]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@can_mount
def test_a_commit_and_a_copy_on_a_full_disk_say_so_and_succeed_when_there_is_room(tmp_path: Path) -> None:
    alone('"$BIN/python" -m faults.small_disk "$PWD"', tmp_path)


@can_mount
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_onto_a_full_disk_ends_and_goes_on_when_there_is_room(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    told = alone(
        """
        mount -t tmpfs -o size=200k tmpfs disk
        dr2e restore --input in --output disk/out OPTIONS && code=0 || code=$?
        echo "first exit $code"
        mount -o remount,size=200m disk
        dr2e restore --input in --output disk/out OPTIONS && code=0 || code=$?
        echo "second exit $code"
        dr2e verify disk/out
        """.replace("OPTIONS", " ".join(f"'{option}'" for option in OPTIONS)),
        tmp_path,
    )
    first, second = told.split("first exit ")
    assert re.search(r"dr2e: .*cannot write .*disk/out/.*: No space left on device; free some space", first)
    assert second.startswith("1\n") and "photo by photo" not in first
    assert "second exit 3\n" in second and "12: 8 restored, 3 without a face, 1 quarantined" in second
    assert "6 of 6 units read back" in second and "0 findings" in second


@can_mount
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rays_object_store_and_its_disk_full_are_told_and_cost_no_photo(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    with_face = photograph()
    for shard in range(4):
        samples = [[(f"s{shard}p{i}.jpg", with_face), (f"s{shard}p{i}.bin", rng.bytes(12 << 20))] for i in range(4)]
        write_shard(tmp_path / "in" / f"{shard}.tar", [member for sample in samples for member in sample])
    (tmp_path / "spill").mkdir()
    # Ray of the script's own: its sockets need a short path.
    told = alone(
        """
        ray=$(mktemp -d /tmp/r-XXXXXX)
        mount -t tmpfs -o size=20m tmpfs spill
        "$BIN/ray" start --head --port=$PORT --object-store-memory=80000000 --object-spilling-directory="$PWD/spill" \\
            --temp-dir="$ray" --num-cpus=2 --include-dashboard=false >/dev/null 2>&1
        trap 'pkill -KILL -f "$ray" || true; rm -rf "$ray"' EXIT
        address=$("$BIN/python" -c "import ray; print(ray.util.get_node_ip_address())"):$PORT
        dr2e restore --input in --output out OPTIONS --address "$address" && code=0 || code=$?
        echo "first exit $code"
        mount -o remount,size=2g spill
        dr2e restore --input in --output out OPTIONS --address "$address" && code=0 || code=$?
        echo "second exit $code"
        """.replace("OPTIONS", " ".join(f"'{option}'" for option in [*OPTIONS, "--set=unit.max_samples=4"])),
        tmp_path,
        PORT=free_ports(1)[0],
    )
    first, second = told.split("first exit ")
    assert "Ray's object store is full, and so is the disk it spills to" in first and "photo by photo" not in first
    assert second.startswith("1\n"), told
    assert "second exit 0\n" in second and "16: 16 restored" in second
    assert Output(tmp_path / "out").verify() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_s3_server_ends_the_run_and_it_goes_on_when_there_is_room(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    server = SeaweedFS(tmp_path / "server")
    s3 = server.start()
    try:
        output = s3.folder()
        arguments = [
            "restore",
            "--input",
            str(inputs),
            "--output",
            output,
            *OPTIONS,
            "--set=resources.patience_seconds=5",
        ]
        filler = threading.Thread(target=_fill_after_first_commit, args=[server, Output(output, s3.options)])
        filler.start()
        full = run_dr2e(SOURCE, arguments, s3.environment)
        filler.join()
        assert full.returncode == 1, full.stderr
        assert re.search(r"dr2e: .*s3://.*internal error.*it may be full or overloaded.*run it again", full.stderr)
        assert "Traceback" not in full.stderr and "photo by photo" not in full.stderr
        server.kill()
        server.start()
        again = run_dr2e(SOURCE, arguments, s3.environment)
        assert again.returncode == 3, again.stderr
        assert "12: 8 restored, 3 without a face, 1 quarantined" in again.stdout
        assert Output(output, s3.options).verify() == []
    finally:
        server.kill()


def _fill_after_first_commit(server: SeaweedFS, output: Output) -> None:
    deadline = time.monotonic() + 300
    while not output.committed() and time.monotonic() < deadline:
        time.sleep(0.1)
    server.kill()
    server.start(full=True)


def photograph() -> bytes:
    """One with a face."""
    with tarfile.open(fileobj=io.BytesIO(shards()["photos-000.tar"])) as tar:
        file = tar.extractfile("s0p0.jpg")
        assert file is not None
        return file.read()
