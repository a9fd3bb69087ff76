"""The last stage of an evaluation: every face of a unit is compared with its truth, and the unit is stored."""

from __future__ import annotations

import io
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from operators.detect.align import align
from operators.images import decode
from operators.quality.judge import PYIQA
from operators.quality.metrics.panel import Panel
from operators.quality.niqe import Niqe
from operators.training.weights import WeightsError
from pipeline.blocks import failure_of, from_block, unit_of
from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.faces import at_size, degraded
from pipeline.evaluation.results import METHODS, FaceResult, PhotoResult, Version, to_parquet, values
from pipeline.evaluation.sample import photo_name
from pipeline.evaluation.settings import EvaluationConfig
from pipeline.records import Face, Photo, Pixels
from pipeline.sink import Outcome
from pipeline.stages import is_of_the_machine, limits, one_line
from pipeline.storage import Location, StorageError

FACES = "faces"


def object_name(unit: str) -> str:
    """Where the results of a unit lie below the output."""
    return f"{FACES}/{unit}.parquet"


class Measure:
    """Measures and stores the unit of a block; returns a block of its outcome.

    A second worker that brings the same unit finds it stored and leaves it: the results are the same.
    """

    def __init__(self, config: EvaluationConfig, location: Location, shares: dict[str, float]) -> None:
        """shares: unit to its part of the input in bytes, for progress."""
        self.config, self.location, self.shares = config, location, shares

    def __call__(self, block: pa.Table) -> pa.Table:
        return self.store(block).to_block()

    def store(self, block: pa.Table) -> Outcome:
        """Measure and store, or say why not."""
        if failed := failure_of(block):
            return Outcome(failed.unit, failed.reason, failed.outside)
        unit = unit_of(block)
        try:
            results = [self.result(photo) for photo in from_block(block)]
            self.location.put_if_absent(object_name(unit), to_parquet(results))
        except (StorageError, WeightsError, OSError, MemoryError) as error:
            return Outcome(unit, f"measure: {error}")
        faces = sum(len(result.faces) for result in results)
        left_out = sum(result.status == "left_out" for result in results)
        return Outcome(unit, photos=len(results), faces=faces, rejected=left_out, share=self.shares[unit])

    def result(self, photo: Photo) -> PhotoResult:
        """The photo's faces measured, or why it is left out."""
        if photo.status == "rejected":
            return PhotoResult(photo.shard, photo.key, "left_out", photo.error, photo.message, seconds=photo.seconds)
        try:
            return self.measured(photo)
        except WeightsError:
            raise
        except Exception as error:
            if is_of_the_machine(error):
                raise
            return PhotoResult(photo.shard, photo.key, "left_out", "measure.failed", one_line(error))

    def measured(self, photo: Photo) -> PhotoResult:
        """Truth and inputs are cut anew, which is cheaper than carrying them; they come out the same."""
        started = time.perf_counter()
        evaluate = self.config.evaluate
        metrics = panel(self.config.restore.niqe, evaluate.folder_of_weights, evaluate.metrics)
        pixels = decode(photo.image, limits(self.config)).pixels
        truth, _ = align(pixels, photo.faces[0].landmarks, evaluate.size)
        features = metrics.features([truth])
        is_shown = photo_name(photo.shard, photo.key) in evaluate.shown
        faces = []
        for setting, face in zip(self.config.settings_of(photo.key), photo.faces, strict=True):
            came = degraded(truth, setting, seed=self.config.seed, key=photo.key, grey=photo.grey)
            images = versions(face, came)
            faces.append(
                FaceResult(
                    setting=setting.name,
                    status=face.status,
                    reason=face.reason,
                    n=face.n,
                    tau=face.tau,
                    evaluations=face.evaluations,
                    versions=compare(metrics, images, truth),
                    niqe_in=face.niqe_in,
                    strip=strip([*images, truth]) if is_shown else None,
                    grid=() if evaluate.grid is None else tuple(Cell(**cell) for cell in face.candidates),
                )
            )
        photo.spend("measure", time.perf_counter() - started)
        truth_features = None if features is None else features[0]
        return PhotoResult(
            photo.shard, photo.key, "measured", truth=truth_features, faces=tuple(faces), seconds=photo.seconds
        )


def versions(face: Face, came: Pixels) -> list[Pixels]:
    """The images of METHODS at the size of `came`, the degraded face. A kept face stays as it came, everywhere."""
    if face.status == "kept":
        return [came] * len(METHODS)
    if face.dr2 is None or face.image is None:
        raise ValueError("a restored face lacks its images; was a stage skipped?")
    return [came, at_size(face.dr2, len(came)), at_size(face.image, len(came))]


def compare(metrics: Panel, images: list[Pixels], truth: Pixels) -> tuple[Version, ...]:
    """The versions of a face, measured."""
    features = metrics.features(images)
    return tuple(
        Version(method, values(row), None if features is None else features[place])
        for place, (method, row) in enumerate(zip(METHODS, metrics.measure(images, truth), strict=True))
    )


def strip(images: list[Pixels]) -> bytes:
    """JPEG of square images side by side."""
    out = io.BytesIO()
    Image.fromarray(np.concatenate(images, axis=1)).save(out, format="JPEG", quality=92)
    return out.getvalue()


@lru_cache(maxsize=1)
def panel(niqe: str, folder: str | None, named: tuple[str, ...] = ()) -> Panel:
    """The metrics, loaded once per process. niqe: the run's judge; where that is another metric, the built-in NIQE."""
    scale = Niqe.load("builtin" if niqe.startswith(PYIQA) else niqe)
    return Panel(scale, None if folder is None else Path(folder), named)
