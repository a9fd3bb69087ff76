"""``dr2e bench``: how fast, and how good for that, as ways measured side by side in one run."""

from __future__ import annotations

import click

from jobs.benchmarks import dr2, engine, enhancers, memory, nightly, pipeline, scaling, simulation, updates, verify


@click.group("bench")
def command() -> None:
    """Measure speed, or quality per evaluation, several ways side by side in one run on this machine."""


command.add_command(dr2.command)
command.add_command(engine.command)
command.add_command(enhancers.command)
command.add_command(memory.command)
command.add_command(nightly.command)
command.add_command(pipeline.command)
command.add_command(scaling.command)
command.add_command(simulation.command)
command.add_command(updates.command)
command.add_command(verify.command)
