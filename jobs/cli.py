"""The command line: lists the commands, and turns errors into one line and an exit code.

Exit codes: 0 complete, 1 failed, 2 usage or configuration, 3 complete with quarantined photos, 128 + n signal n.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from pipeline.secrecy import shown

if TYPE_CHECKING:
    from pipeline.events.kinds import Level

FAILED, USAGE, QUARANTINED, SIGNALLED = 1, 2, 3, 128

_COMMANDS = {
    "demo": "Restore a small degraded collection and show what came out.",
    "plan": "Say what a run would do and cost, without doing it.",
    "restore": "Restore the faces of photographs; run it again to resume.",
    "submit": "Run a command as a job of a Ray cluster, and follow it.",
    "pairs": "Make training pairs of good faces; run it again to resume.",
    "status": "Count what an output holds, and say how far and how fast it is.",
    "history": "Say what was done to an output, execution by execution.",
    "retry": "Try quarantined photos again, after a fix.",
    "verify": "Read an output back and check every byte of it.",
    "gc": "Find, and with --delete remove, what no commit record names.",
    "report": "Write the page that shows an output to a person.",
    "pack": "Pack images into shards.",
    "unpack": "Unpack restored photos from shards.",
    "models": "Keep published and own models where runs find them by name.",
    "train": "Train a built-in model on your own shards.",
    "inspect": "Show every candidate of a face, with its scores and the choice.",
    "evaluate": "Degrade sharp faces, restore them, and measure what came back.",
    "compare": "Compare two evaluations, face by face.",
    "curate": "Learn from a collection's own restored faces: one round, measured.",
    "bench": "Measure speed, several ways side by side.",
    "deploy": "Write the manifests of a cluster.",
    "fit-niqe": "Fit the pristine model that NIQE compares with.",
    "fit-selection": "Fit what chooses (N, tau) per face to a measured grid.",
}

# Errors that name what the user can change. Modules that were never imported cannot have raised.
_USAGE_ERRORS = {
    "pipeline.config": ("ConfigError",),
    "pipeline.store.errors": ("ModelError",),
    "pipeline.inputs": ("InputError",),
    "pipeline.run": ("RunMismatch",),
    "pipeline.units": ("ShardChanged",),
    "pipeline.storage": ("StorageError",),
    "pipeline.unpacking": ("FileTaken",),
    "pipeline.ledger": ("LedgerError",),
    "pipeline.verification.journal": ("JournalError",),
    "pipeline.processes": ("ProcessError",),
    "pipeline.session": ("ClusterError",),
    "jobs.submission.client": ("SubmitError",),
    "operators.training.weights": ("WeightsError",),
    "operators.pairs.recipes": ("RecipeError",),
}
_FAILURES = {"pipeline.rounds": ("RunFailed",), "jobs.submission.follow": ("JobLost",)}


class Commands(click.Group):
    """Imports a command only when it is called: some need torch, which takes seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"jobs.{cmd_name.replace('-', '_')}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="DR2E_LOG",
    show_envvar=True,
    help="What standard error gets: text for people, or a JSON object a line.",
)
@click.version_option(version("dr2e"), prog_name="dr2e")
def command(log_format: str) -> None:
    """Restore faces in bulk: DR2E over WebDataset shards on Ray.

    \b
    Start with:   dr2e restore --input photo.jpg --output out
    """
    if log_format == "json":
        from pipeline.events.lines import begin_json_log

        begin_json_log()


def complain(message: str, level: Level = "error") -> None:
    """A line on standard error, as the log's format has it."""
    if in_json():
        from pipeline.events.lines import said, say

        say(said(message, level))
    else:
        click.echo(f"dr2e: {message}", err=True)


def in_json() -> bool:
    """Whether standard error gets JSON; nothing is imported to find out."""
    lines = sys.modules.get("pipeline.events.lines")
    return lines is not None and bool(lines.is_json_log())


def main() -> None:
    """The console script ``dr2e``."""
    try:
        sys.exit(command(standalone_mode=False) or 0)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = f"; see '{context.command_path} --help'" if context else ""
        complain(f"{' '.join(error.format_message().split()).rstrip('.')}{hint}")
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(SIGNALLED + 2)
    except Exception as error:
        if isinstance(error, _loaded(_USAGE_ERRORS)):
            code = USAGE
        elif isinstance(error, _loaded(_FAILURES)):
            code = FAILED
        else:  # a fault of ours: all that is known of it, but no credentials, for it may be sent to somebody
            told = shown(traceback.format_exc()).rstrip()
            if in_json():
                complain(told)
            else:
                click.echo(told, err=True)
            sys.exit(FAILED)
        complain(" ".join(str(error).split()))
        sys.exit(code)


def _loaded(errors: Mapping[str, tuple[str, ...]]) -> tuple[type[Exception], ...]:
    """The classes in ``errors`` whose modules have been imported."""
    return tuple(
        getattr(sys.modules[module], name)
        for module, names in errors.items()
        if module in sys.modules
        for name in names
    )
