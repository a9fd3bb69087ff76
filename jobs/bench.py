"""``dr2e bench``: how fast, as ratios of ways measured side by side in one run."""

from __future__ import annotations

import click

from jobs.benchmarks import dr2


@click.group("bench")
def command() -> None:
    """Measure speed, several ways side by side in one run on this machine."""


command.add_command(dr2.command)
