"""Fixtures for all tests: a real S3 server here; what a run needs, in runs.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import S3, SeaweedFS

pytest_plugins = ["runs"]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A SeaweedFS S3 server of this session's own; started by the first test that asks for it."""
    try:
        server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    try:
        yield server.start()
    finally:
        server.kill()
