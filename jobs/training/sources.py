"""Where the pairs come from that an enhancer learns from: made on the way from labelled faces, or by `dr2e pairs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jobs.training.dr2_outputs import EQ12, TRAINING, Dr2Outputs, Recipe, make_outputs, remover
from jobs.training.enhancer_figures import soft_versions
from jobs.training.enhancer_pairs import EnhancerPairs, Mix, sharp_faces
from jobs.training.faces import load_labelled
from jobs.training.pair_stream import PairStream
from operators.dr2.prior import Prior
from operators.enhance.network import SCALE
from operators.training.loop import TrainingPlan
from operators.training.split import held_out
from pipeline.inputs import InputError

Say = Callable[[str], None]
HeldOut = tuple[dict[str, NDArray[np.uint8]], NDArray[np.uint8]]
"""Inputs by kind, each (M, S, S, 3) uint8, and the truth of all of them, (M, 2S, 2S, 3) uint8."""


class Source(Protocol):
    """facts: about the pairs, for the weights. licence: of weights trained on them."""

    facts: dict[str, Any]
    licence: str

    def draw(self, count: int, rng: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        """(count, 3, S, S) inputs and (count, 3, 2S, 2S) targets of a step, float32 in [-1, 1]."""
        ...

    def held_out(self) -> HeldOut | None:
        """What to measure on; None where there is nothing."""
        ...


class FromFaces:
    """Pairs of labelled faces, made in each step; those of DR2 from outputs made once and kept in OUT."""

    licence = "Apache-2.0"

    def __init__(
        self,
        data: Sequence[str],
        options: Mapping[str, Any],
        plan: TrainingPlan,
        size: int,
        mix: Mix,
        prior: Prior | None,
        *,
        dr2_faces: int,
        dr2_from: int,
        measure_faces: int,
        say: Say,
    ) -> None:
        """Raises InputError where no face is left to train on."""
        self.plan, self.prior, self.say, self.measure_faces, self.dr2_from = plan, prior, say, measure_faces, dr2_from
        self.keys, self.sharp = sharp_faces(load_labelled(data, options), size * SCALE)
        self.test = np.array([held_out(key) for key in self.keys])
        say(f"{(~self.test).sum()} faces to train on, {self.test.sum()} held out")
        if self.test.all():
            raise InputError("no face to train on: every key falls into the held-out tenth")
        outputs = self._dr2_outputs("dr2", TRAINING, ~self.test, dr2_faces)
        self.pairs = EnhancerPairs(self.sharp[~self.test], outputs, mix)
        self.facts = {
            "faces": len(self.pairs.sharp), "dr2_faces": len(np.unique(outputs.rows)), "dr2_share": mix.dr2,
            "dr2_from": dr2_from, "grey_share": mix.grey, "prior": prior.fingerprint if prior else None,
        }  # fmt: skip

    def draw(self, count: int, rng: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        """See `Source`."""
        return self.pairs.draw(count, rng, dr2=step >= self.dr2_from)

    def held_out(self) -> HeldOut | None:
        """See `Source`."""
        if not self.test.any() or not self.measure_faces:
            return None
        outputs = self._dr2_outputs("dr2-held-out", EQ12, self.test, self.measure_faces)
        sharp = self.sharp[self.test]
        truth = sharp[np.unique(outputs.rows)] if self.prior else sharp[: self.measure_faces]
        return soft_versions(truth, outputs), truth

    def _dr2_outputs(self, folder: str, recipe: Recipe, chosen: NDArray[np.bool_], count: int) -> Dr2Outputs:
        """DR2's outputs on `count` of the chosen faces, what OUT/`folder` has is read back; none without a prior."""
        if self.prior is None:
            return Dr2Outputs.none(self.sharp.shape[1] // 2)
        names = [key for key, wanted in zip(self.keys, chosen, strict=True) if wanted]
        seed = self.plan.seed
        place = self.plan.out / folder / f"{self.prior.fingerprint[:12]}-seed{seed}"
        remove = remover(self.prior, recipe, seed)
        return make_outputs(place, names, self.sharp[chosen], remove, count=count, seed=seed, say=self.say)


class FromPairs:
    """Pairs of `dr2e pairs`, streamed."""

    licence = "that of the pairs it was trained on"

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        plan: TrainingPlan,
        size: int,
        *,
        grey: float,
        measure_faces: int,
        say: Say,
    ) -> None:
        """Raises InputError for a URL without pairs, or with pairs of other sizes."""
        self.grey, self.measure_faces = grey, measure_faces
        self.train = PairStream(url, options, seed=plan.seed)
        self.validation = PairStream(url, options, split="validation", seed=plan.seed)
        say(f"{len(self.train)} pairs to train on, {len(self.validation)} for validation")
        if not len(self.train):
            raise InputError(f"{url} has no pairs to train on")
        low, high = self.train.pair(0)
        if (len(low), len(high)) != (size, size * SCALE):
            raise InputError(
                f"{url} has pairs of {len(low)} and {len(high)} px, an enhancer with --size {size} needs {size} and "
                f"{size * SCALE}"
            )
        self.facts = {
            "pairs": len(self.train), "recipes": self.train.info.get("recipes"), "grey_share": grey,
            "dataset": self.train.fingerprint,
        }  # fmt: skip

    def draw(self, count: int, rng: np.random.Generator, step: int) -> tuple[Tensor, Tensor]:
        """See `Source`."""
        return self.train.draw(count, rng, step, self.grey)

    def held_out(self) -> HeldOut | None:
        """See `Source`."""
        count = min(len(self.validation), self.measure_faces)
        if not count:
            return None
        low, high = zip(*(self.validation.pair(place) for place in range(count)), strict=True)
        return {"validation pairs": np.stack(low)}, np.stack(high)
