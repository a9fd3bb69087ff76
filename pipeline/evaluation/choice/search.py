"""The stage between degradation and measuring: what a run makes of a face, and then every candidate of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from operators.detect.align import align
from operators.dr2.noise import FaceNoise
from operators.images import decode, to_grey
from operators.quality.selection import Candidate, Pair
from operators.restoration import STEP, DegradationRemover
from pipeline.config import Config
from pipeline.evaluation.choice.cells import Cell
from pipeline.evaluation.choice.chains import measured_chains
from pipeline.evaluation.faces import at_size
from pipeline.evaluation.measure import panel
from pipeline.evaluation.settings import of_evaluation
from pipeline.ledger import finite
from pipeline.metrics.names import Metric
from pipeline.records import Face, Photo, Pixels
from pipeline.stages import Enhance, Restore, Stage, limits, resized
from pipeline.watchdog import beat, pulse


class Search(Stage):
    """Restores and enhances as a run does, then leaves in `Face.candidates` the grid: each a `Cell` as plain JSON.

    One stage for all three: candidates are many and large, and never leave the process that made them.
    """

    name = "search"

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        evaluation = of_evaluation(config).evaluate
        if evaluation.grid is None:
            raise ValueError("this stage needs an evaluation with a grid")
        self.restore = Restore(config, face_size, device, threads)
        self.enhance = Enhance(config, face_size, device, threads)
        remover = self.restore.remover
        if not isinstance(remover, DegradationRemover):
            raise ValueError("a grid is measured with DR2")
        self.remover = remover
        self.chains = measured_chains(face_size, step=evaluation.grid // STEP, stride=remover.stride)
        self.panel = panel(config.restore.niqe, evaluation.folder_of_weights)
        self.size, self.seed, self.limits = evaluation.size, config.seed, limits(config)

    def totals(self) -> Mapping[Metric, float]:
        """See `Stage`."""
        return self.restore.totals()

    def work(self, photos: Sequence[Photo]) -> None:
        """See `Stage`."""
        self.restore.work(photos)
        grids = self.grids([(photo, photo.faces[0]) for photo in photos])
        for photo, found in zip(photos, grids, strict=True):
            photo.faces[0].candidates = [asdict(cell) for cell in self.measured(photo, found)]
        self.enhance.work(photos)

    def grids(self, faces: Sequence[tuple[Photo, Face]]) -> list[list[tuple[Candidate, Pixels]]]:
        """Every candidate of each face with its image; the faces go through each chain together."""
        crops = [face.crop for _, face in faces if face.crop is not None]
        noise = [FaceNoise(self.seed, photo.key, 0) for photo, _ in faces]
        found: list[dict[Pair, tuple[Candidate, Pixels]]] = [{} for _ in faces]
        for chain in self.chains:
            for grid, more in zip(found, self.remover.candidates(chain, crops, noise, pulse()), strict=True):
                grid.update({(candidate.n, candidate.tau): (candidate, image) for candidate, image in more})
        return [list(grid.values()) for grid in found]

    def measured(self, photo: Photo, found: Sequence[tuple[Candidate, Pixels]]) -> list[Cell]:
        """The candidates of a photo's face and what the enhancer makes of them, compared with the truth."""
        truth, _ = align(decode(photo.image, self.limits).pixels, photo.faces[0].landmarks, self.size)
        enhancer = self.enhance.enhancer
        cells = []
        for candidate, image in found:
            beat()
            dr2 = to_grey(image) if photo.grey else image
            (sharp,) = enhancer.enhance(np.stack([resized(dr2, enhancer.input_size)]))
            versions = [at_size(dr2, self.size), at_size(to_grey(sharp) if photo.grey else sharp, self.size)]
            of_dr2, of_enhanced = self.panel.distances(versions, truth)
            tau, niqe = candidate.tau * STEP, finite(candidate.niqe)
            cells.append(Cell(candidate.n, tau, niqe, candidate.fidelity, of_dr2, of_enhanced))
        return sorted(cells, key=lambda cell: cell.pair)
