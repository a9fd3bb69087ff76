"""A copy of the packages with faults put into their source, and `dr2e` run from it, driver and workers alike.

A fault in the source meets everything a run consists of: Ray's processes, retries, storage. What is patched in the
test's own process would not reach a worker.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2]
PACKAGES = ("jobs", "operators", "pipeline")


@dataclass(frozen=True)
class Edit:
    """A fault. file: relative to the source, "pipeline/commit.py". old: text that is there exactly once. new: what
    stands there instead."""

    file: str
    old: str
    new: str


class StaleEdit(AssertionError):
    """The text to be replaced is not there exactly once: the source has moved on, and the fault must follow."""


def sabotaged(folder: Path, edits: Sequence[Edit]) -> Path:
    """Copy the packages into `folder`, which must not exist yet, with `edits` made in order; returns `folder`.

    Weights are linked, not copied. Raises StaleEdit.
    """
    for package in PACKAGES:
        shutil.copytree(
            SOURCE / package,
            folder / package,
            copy_function=_link_weights,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for edit in edits:
        file = folder / edit.file
        text = file.read_text(encoding="utf-8")
        if (count := text.count(edit.old)) != 1:
            raise StaleEdit(f"{edit.file} has {count} times, not once: {edit.old!r}")
        file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return folder


def run_dr2e(
    tree: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = 600,
) -> subprocess.CompletedProcess[str]:
    """`dr2e ARGUMENTS` with the source in `tree`, to its end; standard output and error are text.

    arguments: paths among them absolute. environment: on top of this process's. seconds: when it counts as hung;
    then subprocess.TimeoutExpired is raised.

    Its workers have the same source, whether it starts Ray itself or is given an `--address`: Ray puts the driver's
    working directory before everything else a worker imports from.
    """
    return subprocess.run(
        [sys.executable, "-c", "from jobs.cli import main; main()", *arguments],
        cwd=tree,
        env={**os.environ, **(environment or {}), "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def _link_weights(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        os.symlink(source, target)
    else:
        shutil.copyfile(source, target)
