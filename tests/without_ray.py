"""A run in this process: the product's stages one after the other, without Ray, for what does not look at Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline import rounds
from pipeline.resources import Node, Sizes
from pipeline.run import Run
from pipeline.sink import Commit, Outcome, outcomes
from pipeline.source import Read


def run_here(patch: pytest.MonkeyPatch) -> None:
    """Let every run of this test do without Ray."""
    patch.setattr(rounds, "stream", _stream)
    patch.setattr(rounds, "session", _session)
    patch.setattr(rounds, "nodes", _nodes)


def _stream(run: Run, reads: Sequence[Read], sizes: Sizes) -> Iterator[Outcome]:
    stages = [stage(run.config, run.models.face_size, "cpu", 1) for stage, _ in run.product.stages]
    commit = (run.product.sink or Commit)(run)
    for read in reads:
        for block in read():
            for stage in stages:
                block = stage(block)
            yield from outcomes(commit(block))


def _nodes() -> list[Node]:
    return [Node(2, 0)]


@contextmanager
def _session(*_: Any, **__: Any) -> Iterator[list[Node]]:
    yield _nodes()
