"""``dr2e plan``: what a run would do and cost, without doing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from jobs.images import names_images, packed_config
from jobs.options import as_json, config_from, run_options
from jobs.planning.forecasts import Comparison, compare, number, table
from pipeline.config import Config, ConfigError
from pipeline.driver import prepare
from pipeline.ledger import finite
from pipeline.models import describe
from pipeline.output import Output, Status
from pipeline.packing import find_images
from pipeline.plan import ShardTask, bytes_left
from pipeline.progress import clock
from pipeline.secrecy import complaint
from pipeline.shards import index_shard
from pipeline.simulation.cluster import Cluster
from pipeline.storage import Location

SAMPLED_SHARDS = 4
"""Local shards whose headers are read to count photos; beyond them the count is projected by bytes."""


@dataclass(frozen=True)
class Estimate:
    """What is left of a run.

    shards, shards_done, units_done: of the input. shards_gone: those that have results and are no longer in the input.
    shards_changed: those that are not what their results came from; they are done anew or left alone.
    bytes_left: of shards not complete yet, less their share of committed units. photos_left, faces_left,
    evaluations_left, seconds_left: projections; None where nothing is known to project from. basis: what they are
    projected from. models: role to name, licence, source, sha256.
    """

    output: str
    shards: int
    shards_done: int
    shards_gone: int
    shards_changed: int
    units_done: int
    bytes_left: int
    photos_left: int | None
    faces_left: int | None
    evaluations_left: int | None
    seconds_left: float | None
    basis: str
    models: dict[str, dict[str, str]]

    @property
    def complete(self) -> bool:
        return self.shards == self.shards_done


def plan(config: Config) -> Estimate:
    """What ``dr2e restore`` with this configuration has left to do. Opens listings, commit records and the headers
    of a few local shards. Raises what `pipeline.driver.prepare` raises."""
    if names_images(config):
        packed = packed_config(config)
        if packed is None:
            return _of_images(config)
        config = packed
    prepared = prepare(config)
    pending = prepared.plan.pending
    status = prepared.run.output.status()
    left = bytes_left(prepared.plan)
    photos, basis = _photos(pending, left, status)
    done = status.counts["photos"]

    def projected(amount: float) -> float | None:
        return None if photos is None or not done else photos * amount / done

    faces, evaluations = projected(status.counts["faces"]), projected(status.counts["evaluations"])
    return Estimate(
        output=prepared.run.output.location.url,
        shards=len(prepared.shards),
        shards_done=len(prepared.plan.done),
        shards_gone=len(prepared.plan.gone),
        shards_changed=len(prepared.changed),
        units_done=prepared.plan.committed_units,
        bytes_left=left,
        photos_left=photos,
        faces_left=None if faces is None else round(faces),
        evaluations_left=None if evaluations is None else round(evaluations),
        seconds_left=projected(max(status.seconds.values(), default=0.0)),
        basis=basis,
        models=prepared.run.models.to_json(),
    )


def _of_images(config: Config) -> Estimate:
    """What restoring images would do that are not packed yet."""
    files, _ = find_images(config.input, config.storage.input)
    return Estimate(
        output=Location(config.output, config.storage.output).url,
        shards=1,
        shards_done=0,
        shards_gone=0,
        shards_changed=0,
        units_done=0,
        bytes_left=sum(file.size for file in files),
        photos_left=len(files),
        faces_left=None,
        evaluations_left=None,
        seconds_left=None,
        basis="images are packed into shards first, no rates yet",
        models=describe(config).to_json(),
    )


def _photos(pending: Sequence[ShardTask], left: int, status: Status) -> tuple[int | None, str]:
    if not pending:
        return 0, "nothing is left"
    local = [task for task in pending if "://" not in task.shard.url][:SAMPLED_SHARDS]
    sampled = sum(task.shard.size for task in local)
    if sampled:
        counted = sum(len(index_shard(Path(task.shard.url)).samples) for task in local)
        photos = round(counted * left / sampled)
        basis = f"{counted} photos counted in {len(local)} of {len(pending)} shards"
    else:
        photos, basis = None, "photos are counted as they are read from remote shards"
    if status.counts["photos"]:
        basis += f", rates of the {status.counts['photos']} photos restored so far"
    else:
        basis += ", no rates yet: restore a few units first to know the time"
    return photos, basis


@click.command("plan")
@run_options
@click.option(
    "--simulate",
    "clusters",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="Forecast the run on such a cluster: nodes=8,cpus=16,gpus=1,gpu-price=2.5; several are compared.",
)
@click.option("--rates", metavar="URL", help="Output whose records say how long units take; else that of --output.")
@click.option("--photos", metavar="NUMBER", help="Simulate so many, such as 10k or 100M, instead of what is left.")
@as_json
def command(as_json: bool, clusters: tuple[str, ...], rates: str | None, photos: str | None, **options: Any) -> None:
    """Say what a run would do and cost, without doing it.

    Takes the options of `dr2e restore`. Rates come from what the output already holds.

    \b
    dr2e plan --input 's3://archive/{000..999}.tar' --output s3://archive/restored
    dr2e plan --photos 10M --rates s3://archive/restored \\
        --simulate nodes=4,cpus=8,gpus=1,gpu-price=2 --simulate nodes=16,cpus=8,gpus=1,gpu-price=2
    """
    if not clusters and (rates or photos):
        raise ConfigError(
            "--rates and --photos are for --simulate: name a cluster with it, such as nodes=8,cpus=16,gpus=1"
        )
    if rates and (refused := complaint(rates)):
        raise ConfigError(f"--rates: {refused}")
    shapes = [Cluster.parse(text) for text in clusters]
    if photos is not None:
        told = simulated(shapes, options, number(photos), rates)
        click.echo(json.dumps(finite(asdict(told)), indent=1) if as_json else table(told))
        return
    config = config_from(**options)
    estimate = plan(config)
    found = _simulated_rest(estimate, shapes, config, rates) if shapes else None
    if as_json:
        answer = {**asdict(estimate), "complete": estimate.complete}
        click.echo(json.dumps(answer if found is None else {**answer, "simulated": finite(asdict(found))}, indent=1))
        return
    click.echo(f"output       {estimate.output}")
    click.echo(f"shards       {estimate.shards}, of which {estimate.shards_done} are done")
    if estimate.shards_gone:
        click.echo(f"gone         {estimate.shards_gone} shards are not in the input any more; their results stay")
    if estimate.shards_changed:
        fate = "are done anew" if config.changed == "redo" else "are left as they are"
        click.echo(f"changed      {estimate.shards_changed} shards since they were committed, and {fate}")
    click.echo(f"left         {estimate.bytes_left / 1e6:,.1f} MB{_count(estimate.photos_left, 'photos')}")
    click.echo(f"             {_costs(estimate)}")
    click.echo(f"             ({estimate.basis})")
    for role, model in estimate.models.items():
        click.echo(f"{role:<12} {model['name']}  {model['sha256'][:12] or 'no weights'}  licence: {model['licence']}")
    if found is not None:
        click.echo(f"\n{table(found)}")


def simulated(clusters: Sequence[Cluster], options: dict[str, Any], photos: int, rates: str | None) -> Comparison:
    """Forecasts for a collection that need not exist. options: those of the command.

    Raises ConfigError without an output to take rates from, and what `compare` raises.
    """
    source = rates or options["output"]
    if not source:
        raise ConfigError("--simulate with --photos needs --rates: an output whose records say how long units take")
    placeholders = {"inputs": options["inputs"] or ("photos",), "output": options["output"] or source}
    config = config_from(**{**options, **placeholders})
    return compare(photos, clusters, Output(source, config.storage.output), config)


def _simulated_rest(estimate: Estimate, clusters: Sequence[Cluster], config: Config, rates: str | None) -> Comparison:
    """Forecasts for what is left."""
    source = Output(rates or config.output, config.storage.output)
    return compare(estimate.photos_left, clusters, source, config, estimate.bytes_left)


def _costs(estimate: Estimate) -> str:
    if estimate.evaluations_left is None or estimate.seconds_left is None:
        return "network evaluations and time are not known yet"
    return (
        f"about {estimate.faces_left:,} faces, {estimate.evaluations_left:,} network evaluations, "
        f"{clock(estimate.seconds_left)} of work for the slowest stage"
    )


def _count(number: int | None, what: str) -> str:
    return "" if number is None else f", about {number:,} {what}"
