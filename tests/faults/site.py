"""Where storms take place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import s3fs
from servers import SeaweedFS

from faults.checker import Objects
from faults.machines import Machines
from faults.proxy import Proxy


class Site:
    """An S3 server behind a proxy, a cluster, and the input."""

    def __init__(self, folder: Path, inputs: Objects, settings: Sequence[str], machines: int = 2) -> None:
        """folder: for the server's data and logs. inputs: shards by name. settings: of the run, KEY=VALUE."""
        self.folder, self.inputs, self.settings = folder, inputs, settings
        (folder / "s3").mkdir()
        self.server = SeaweedFS(folder / "s3")
        self.s3 = self.server.start()
        self.proxy = Proxy(self.server.port)
        # What a run knows of storage, it knows from its environment.
        self.machines = Machines(machines, {**self.s3.environment, "AWS_ENDPOINT_URL": self.proxy.endpoint})
        self.storage = s3fs.S3FileSystem(**self.s3.options, use_listings_cache=False, skip_instance_cache=True)
        for name, data in inputs.items():
            self.storage.pipe_file(f"{self.s3.bucket}/input/{name}", data)
        self.count = 0

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.machines.close()
        self.proxy.close()
        self.server.kill()

    def output(self) -> str:
        """The name of an output nobody has used."""
        self.count += 1
        return f"out-{self.count:04d}"

    def objects(self, output: str) -> Objects:
        """All that is stored below an output."""
        root = f"{self.s3.bucket}/{output}/"
        return {path.removeprefix(root): self.storage.cat_file(path) for path in self.storage.find(root)}

    def command(self, output: str, settings: Sequence[str] = ()) -> list[str]:
        """The run's command line; the source is what the working directory holds. settings: on top of the site's."""
        urls = ["--input", f"s3://{self.s3.bucket}/input", "--output", f"s3://{self.s3.bucket}/{output}"]
        options = [f"--set={setting}" for setting in (*self.settings, *settings)]
        start = [sys.executable, "-c", "from jobs.cli import main; main()"]
        return [*start, "restore", *urls, *options, "--address", self.machines.address]
