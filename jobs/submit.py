"""``dr2e submit``: run a command as a job of a Ray cluster, and follow it."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli import complain, in_json
from jobs.restore import interruptible
from jobs.submission.arguments import Inner, check

if TYPE_CHECKING:
    from jobs.submission.client import Cluster
    from jobs.submission.follow import End


def _name(context: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
        raise click.BadParameter("letters, digits and _.- alone, 100 at most", context, param)
    return value


@click.command("submit", context_settings={"allow_interspersed_args": False})
@click.option("--address", metavar="URL", help="The cluster's dashboard; else RAY_API_SERVER_ADDRESS or RAY_ADDRESS.")
@click.option("--id", "job", metavar="ID", callback=_name, help="What to call the job; else a name is drawn.")
@click.option("--no-wait", is_flag=True, help="Return once the cluster has the job; its name goes to standard output.")
@click.option("--installed", is_flag=True, help="Use the dr2e that is installed there, and send none.")
@click.option(
    "--python", default="python", show_default=True, metavar="PROGRAM", help="The head's Python with what dr2e needs."
)
@click.option("--follow", "followed", metavar="ID", callback=_name, help="Follow a job that was submitted before.")
@click.option("--stop", "stopped", metavar="ID", callback=_name, help="End a job; what it has committed stays.")
@click.option("--list", "lists", is_flag=True, help="Name the cluster's jobs of dr2e.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON; the job's log goes to standard error.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [OPTIONS]...")
@click.pass_context
def command(
    context: click.Context,
    /,
    address: str | None,
    job: str | None,
    no_wait: bool,
    installed: bool,
    python: str,
    followed: str | None,
    stopped: str | None,
    lists: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Run COMMAND on a Ray cluster that is there, from any machine that reaches its dashboard.

    COMMAND is restore, pairs, curate, retry, evaluate or verify, with its options. They are checked here first. Then
    this dr2e, its models and the --config file are sent (22 MB), so the cluster's machines need what dr2e needs and not
    dr2e itself. The job's log is shown as it is written.

    \b
    Restore a bucket, and follow it:
      dr2e submit --address http://head:8265 restore --input s3://archive/shards --output s3://archive/restored
    The same by night; then look, follow, end it:
      dr2e submit --no-wait --id tonight restore --config run.yaml
      dr2e submit --list
      dr2e submit --follow tonight
      dr2e submit --stop tonight
    A cluster that asks for a token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token):
      RAY_AUTH_MODE=token dr2e submit restore ...

    Ctrl-C leaves the job at work. The same command again resumes a run that was stopped or lost, as everywhere.

    Storage's credentials are not sent: they come from the environment of the cluster's machines or from their role,
    and --storage-options or a section 'storage' are refused. So are relative paths; name URLs, or folders on a disk
    that all machines see.

    Exit codes: the job's own; 143 when it was stopped, 1 when it was lost, 2 when it was not submitted, 128+n signal n;
    of --stop 0 once the job has ended.
    """
    asked = [bool(words), followed is not None, stopped is not None, lists]
    if sum(asked) > 1:
        raise click.UsageError("give a command, --follow, --stop or --list, one of them")
    inner = None if any(asked[1:]) else check(context, words)

    from jobs.submission.client import Cluster, SubmitError  # Ray, which no mistake above should wait for
    from jobs.submission.follow import settled

    cluster = Cluster(address)
    if lists:
        _tell_jobs(cluster, as_json)
        return
    name = followed or stopped or job or f"dr2e-{words[0]}-{secrets.token_hex(4)}"
    if inner is None and cluster.details(name) is None:
        raise SubmitError(f"the cluster at {cluster.url} knows no job {name}; --list names those of dr2e")
    ways = f"{_again(address, 'follow', name)} follows it, {_again(address, 'stop', name)} ends it"
    if inner is not None:
        with interruptible(f"if the cluster has job {name} already, {ways}"):
            _send(cluster, name, inner, installed, python)
    with interruptible(f"job {name} {'was told to stop' if stopped else 'goes on'}; {ways}"):
        if stopped is not None and not cluster.stop(name):
            _say(f"job {name} had ended before")
        if no_wait and followed is None:
            _answer(cluster, name, inner, None, as_json, f"job {name} is at work; {ways}")
            return
        end = settled(cluster, name, _say) if stopped is not None else _follow(cluster, name, as_json)
    _answer(cluster, name, inner, end, as_json, end.told)
    context.exit(0 if stopped is not None else end.code)


def _send(cluster: Cluster, name: str, inner: Inner, installed: bool, python: str) -> None:
    """Submit the job. Raises SubmitError."""
    from jobs.submission.package import LAUNCHER, write_package

    for path in inner.paths:
        _say(f"note: {path} is a path of the cluster's: it has to be on a disk that all its machines see")
    start = [*(["dr2e"] if installed else [python, LAUNCHER]), *(["--log-format", "json"] if in_json() else [])]
    about = {"dr2e": inner.name, "output": inner.output}
    with tempfile.TemporaryDirectory(prefix="dr2e-") as folder:
        package = None
        if inner.settings is not None or not installed:
            package = Path(folder) / "package.zip"
            write_package(package, inner.settings, code=not installed)
        # exec: a shell between Ray and the driver would keep its signals and its exit code.
        cluster.submit(name, f"exec {shlex.join([*start, inner.name, *inner.arguments])}", package, about)
    _say(f"job {name} is submitted to {cluster.url}")


def _follow(cluster: Cluster, name: str, as_json: bool) -> End:
    from jobs.submission.follow import follow

    return follow(cluster, name, lambda text: click.echo(text, nl=False, err=as_json), _say)


def _answer(cluster: Cluster, name: str, inner: Inner | None, end: End | None, as_json: bool, told: str) -> None:
    """What became of the job: for a program on standard output, for a person beside it."""
    if as_json:
        answer: dict[str, Any] = {"job": name, "address": cluster.url}
        if inner is not None:
            answer |= {"command": inner.name, "output": inner.output}
        if end is not None:
            answer |= {"status": end.status, "exit_code": end.code}
        click.echo(json.dumps({**answer, "message": told}, indent=1))
        return
    if end is None:
        click.echo(name)
    _say(told)


def _tell_jobs(cluster: Cluster, as_json: bool) -> None:
    rows = [
        {"job": job.submission_id, "status": str(job.status), **(job.metadata or {})}
        for job in cluster.jobs()
        if "dr2e" in (job.metadata or {})
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    for row in [] if as_json else rows:
        click.echo(f"{row['job']}  {row['status']}  {row['dr2e']} {row['output']}")


def _again(address: str | None, option: str, name: str) -> str:
    words = ["dr2e", "submit", *(["--address", address] if address else []), f"--{option}", name]
    return f"'{shlex.join(words)}'"


def _say(line: str) -> None:
    complain(line, "info")
