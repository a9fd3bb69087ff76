"""The way of a run without Ray and without a prior: read, detect, commit, one shard after the other."""

from __future__ import annotations

import pyarrow as pa

from faults.zoo.exhibit import MAX_BYTES, MAX_PIXELS
from operators.images import ImageLimits
from pipeline.blocks import failure_of, from_block
from pipeline.commit import CommitContext, commit_unit
from pipeline.config import Config, load
from pipeline.inputs import resolve_inputs
from pipeline.output import Output
from pipeline.plan import make_plan
from pipeline.source import read_shard
from pipeline.stages import Detect

LIMITS = [f"limits.max_bytes={MAX_BYTES}", f"limits.max_pixels={MAX_PIXELS}"]
"""Settings of the zoo's runs."""


def config(inputs: object, output: object, *settings: str) -> Config:
    return load(None, [*LIMITS, *settings], {"input": str(inputs), "output": str(output)})


def by_stages(settings: Config, detect: Detect | None = None) -> Output:
    """The output of `settings.output`, with every face kept as it came.

    detect: the real stage; without it no photo is decoded and none has a face, for what is about archives alone.
    """
    output = Output(settings.output, settings.storage.output)
    options = settings.storage.input
    for task in make_plan(resolve_inputs(settings.input, options), output.committed()).pending:
        for block in read_shard(task, settings.unit, options):
            assert failure_of(block) is None
            commit(output, block if detect is None else detect(block))
    return output


def commit(output: Output, block: pa.Table) -> None:
    """Commit a unit whose faces nobody restored."""
    photos = from_block(block)
    for photo in photos:
        for face in photo.faces:
            face.image, face.status = face.crop, "kept"
        if photo.status == "pending":
            photo.status = "restored" if photo.faces else "no_face"
    context = CommitContext(seed=0, models={}, versions={}, limits=ImageLimits(MAX_PIXELS, MAX_BYTES))
    commit_unit(output.location, photos, context)
