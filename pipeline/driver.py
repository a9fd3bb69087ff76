"""A run from its configuration to its end: checked before Ray starts, then rounds until every unit is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from pipeline.config import Config
from pipeline.executions import Execution, chronicled, now
from pipeline.inputs import ShardRef, resolve_inputs
from pipeline.models import describe
from pipeline.plan import Plan, bytes_left, make_plan, require_unchanged
from pipeline.run import Run, fingerprint


@dataclass(frozen=True)
class Prepared:
    """A run that may start: all that can be checked without Ray has been."""

    run: Run
    shards: Sequence[ShardRef]
    plan: Plan


def prepare(config: Config) -> Prepared:
    """Check models, input and output, and find what is left to do; writes nothing.

    Raises ModelError, InputError, StorageError, LedgerError, RunMismatch or ShardChanged, each in one line.
    """
    run = Run(config, describe(config))
    shards = resolve_inputs(config.input, config.storage.input)
    recorded = run.output.run()
    if recorded:
        run.check(recorded)
    plan = make_plan(shards, run.output.committed())
    # Where the whole input is as it was, so is every shard, and no record need be read for that.
    is_as_it_was = recorded and recorded.get("input", {}).get("fingerprint") == fingerprint(shards)
    require_unchanged(plan, run.output.record, also_done=not is_as_it_was)
    return Prepared(run, shards, plan)


def execute(prepared: Prepared, address: str | None = None, progress: TextIO | None = None) -> None:
    """Do what is left, on Ray. Returns when every unit is committed.

    address: of a Ray cluster; None starts one on this machine. progress: where its lines go (stderr).
    Raises StorageError or RunMismatch before Ray starts, ClusterError when it cannot, and RunFailed when units
    stay undone; what is committed stays, and the same call continues.
    """
    run = prepared.run
    if prepared.plan.complete:
        with chronicled(run.output.location, _begun(prepared)):
            return
    run.output.location.probe()
    run.check(run.output.start(run.record(prepared.shards)))

    from pipeline.passes import run_passes  # Ray, which a finished run does without
    from pipeline.work import Shards

    with chronicled(run.output.location, _begun(prepared)) as tally:
        run_passes(run, Shards(run, prepared.shards), address, progress, tally)


def _begun(prepared: Prepared) -> Execution:
    plan = prepared.plan
    return Execution(
        began=now(),
        work=prepared.run.product.verb,
        shards=len(prepared.shards),
        bytes=sum(shard.size for shard in prepared.shards),
        new_shards=len(plan.pending),
        new_bytes=bytes_left(plan),
        gone=len(plan.gone),
        version=prepared.run.versions["dr2e"],
    )
