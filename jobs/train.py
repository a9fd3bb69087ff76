"""``dr2e train``: train the built-in models from labelled shards."""

from __future__ import annotations

import importlib

import click

_JOBS = {
    "detector": "jobs.train_detector",
    "prior": "jobs.train_prior",
    "enhancer": "jobs.train_enhancer",
}


class _TrainingJobs(click.Group):
    """Imports a job only when it is asked for: torch takes seconds to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_JOBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _JOBS:
            return None
        found: click.Command = importlib.import_module(_JOBS[cmd_name]).command
        return found


@click.command("train", cls=_TrainingJobs)
def command() -> None:
    """Train a built-in model (detector, prior, enhancer) on your own shards.

    Each job writes OUT/<model>.safetensors, which `dr2e restore` takes by path, and resumes from its
    checkpoint when the same command is run again.
    """
