"""What a run makes of photos: restored photos, training pairs, or good faces to make pairs of.

    restored:  Detect -> Restore -> Enhance,  the paper's figure; then Enlarge, where a network makes photos larger
    pairs:     Target -> MakePairs
    kept:      Detect -> Restore -> Enhance and choose

The graph, the isolation of a poison and the commit ask a run for its product and know no more of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pipeline.config import Config
from pipeline.members import Arrange, Encode, in_order, restored_members
from pipeline.stages import Detect, Enhance, Enlarge, Restore, Stage

if TYPE_CHECKING:
    from pipeline.run import Run
    from pipeline.sink import Sink

Pool = Literal["detect", "restore", "enhance"]


@dataclass(frozen=True)
class Product:
    """verb: what a run of it does, for its progress. stages: in their order, each with the pool of `resources` it works
    on. encode, arrange: see `CommitContext`. sink: what takes the units at the end; None: they are committed."""

    verb: str
    stages: tuple[tuple[type[Stage], Pool], ...]
    encode: Encode
    arrange: Arrange
    sink: Callable[[Run], Sink] | None = None


RESTORED = Product(
    "restoring",
    ((Detect, "detect"), (Restore, "restore"), (Enhance, "enhance")),
    encode=restored_members,
    arrange=in_order,
)

ENLARGED = replace(RESTORED, stages=(*RESTORED.stages, (Enlarge, "enhance")))
"""Restored photos that a network makes larger."""


def product_of(config: Config) -> Product:
    """What the run of `config` makes."""
    if config.keep is not None:
        return _kept()
    if config.pairs is None:
        return ENLARGED if config.write.by_network else RESTORED
    from pipeline.pairs.members import PairWriter
    from pipeline.pairs.stages import MakePairs, Target

    writer = PairWriter(config.seed, config.pairs)
    return Product(
        "making pairs", ((Target, "detect"), (MakePairs, "restore")), encode=writer.encode, arrange=writer.arrange
    )


def _kept() -> Product:
    from pipeline.keeping.members import kept_members
    from pipeline.keeping.stages import DetectOrReject, EnhanceAndKeep

    stages: tuple[tuple[type[Stage], Pool], ...] = (
        (DetectOrReject, "detect"),
        (Restore, "restore"),
        (EnhanceAndKeep, "enhance"),
    )
    return Product("restoring, keeping what became better", stages, encode=kept_members, arrange=in_order)
