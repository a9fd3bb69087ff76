"""A run from its configuration to its end: checked before Ray starts, then rounds until every unit is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from pipeline.changes import forget, refuse, units_of, warn
from pipeline.config import Config
from pipeline.executions import Execution, chronicled, now
from pipeline.inputs import ShardRef, resolve_inputs
from pipeline.known import State, read_known, state, write_known
from pipeline.ledger import KNOWN
from pipeline.models import describe
from pipeline.plan import Plan, ShardTask, bytes_left, changed, make_plan
from pipeline.run import Run
from pipeline.units import shard_id


@dataclass(frozen=True)
class Prepared:
    """A run that may start: all that can be checked without Ray has been.

    shards: the input. changed: those that are not what their commits came from; as `config.changed` says they are left
    alone, or will be done anew, and the plan is of that. known, now_known: the shards that are what they were, as the
    output has them and as they are.
    """

    run: Run
    shards: Sequence[ShardRef]
    plan: Plan
    changed: tuple[ShardTask, ...] = ()
    known: frozenset[State] = frozenset()
    now_known: frozenset[State] = frozenset()

    @property
    def worked_on(self) -> Sequence[ShardRef]:
        """The input without what is left alone."""
        if self.run.config.changed == "redo":
            return self.shards
        left_alone = {task.shard for task in self.changed}
        return [shard for shard in self.shards if shard not in left_alone]


def prepare(config: Config) -> Prepared:
    """Check models, input and output, and find what is left to do; writes nothing.

    Raises ModelError, InputError, StorageError, LedgerError, RunMismatch or ShardChanged, each in one line.
    """
    run = Run(config, describe(config))
    shards = resolve_inputs(config.input, config.storage.input)
    recorded = run.output.run()
    if recorded:
        run.check(recorded)
    committed = run.output.committed()
    plan = make_plan(shards, committed)
    known = read_known(run.output.location) if recorded else frozenset[State]()
    differing = changed(plan, run.output.record, lambda shard: state(shard) in known)
    begun = {state(task.shard) for task in (*plan.pending, *plan.done) if task.parts}
    now_known = frozenset(begun - {state(task.shard) for task in differing})
    if config.changed == "refuse":
        refuse(differing)
    if differing:
        plan = _plan_with(config.changed == "redo", differing, shards, committed, plan.gone)
    return Prepared(run, shards, plan, differing, known, now_known)


def _plan_with(
    anew: bool, differing: Sequence[ShardTask], shards: Sequence[ShardRef], committed: set[str], gone: tuple[str, ...]
) -> Plan:
    """The plan without changed shards, or with them as if they had no commits."""
    left_out = {task.shard for task in differing}
    if anew:
        forgotten = units_of({shard_id(shard.relative) for shard in left_out}, committed)
        return make_plan(shards, committed.difference(forgotten))
    return replace(make_plan([shard for shard in shards if shard not in left_out], committed), gone=gone)


def execute(prepared: Prepared, address: str | None = None, progress: TextIO | None = None) -> None:
    """Do what is left, on Ray. Returns when every unit is committed.

    address: of a Ray cluster; None starts one on this machine. progress: where its lines go (stderr).
    Raises StorageError or RunMismatch before Ray starts, ClusterError when it cannot, and RunFailed when units
    stay undone; what is committed stays, and the same call continues.
    """
    run, location = prepared.run, prepared.run.output.location
    if not prepared.plan.complete:
        location.probe()
        run.check(run.output.start(run.record(prepared.shards)))
    if prepared.now_known != prepared.known:
        write_known(location, prepared.now_known)
    if prepared.changed:
        _meet(prepared)
    if prepared.plan.complete:
        with chronicled(location, _begun(prepared)):
            return

    from pipeline.passes import run_passes  # Ray, which a finished run does without
    from pipeline.work import Shards

    with chronicled(location, _begun(prepared)) as tally:
        run_passes(run, Shards(run, prepared.worked_on), address, progress, tally)


def _meet(prepared: Prepared) -> None:
    """Do with changed shards what was decided. Raises StorageError."""
    if prepared.run.config.changed == "redo":
        warn(prepared.changed, "are done anew")
        if prepared.known - prepared.now_known:
            # Of what was known nothing may be left that is about to go, or the shard's return would not be noticed.
            prepared.run.output.location.delete(KNOWN)
        forget(prepared.run.output, prepared.changed)
    else:
        warn(prepared.changed, "are left as they are")


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
        changed=len(prepared.changed),
        version=prepared.run.versions["dr2e"],
    )
