"""Stages that work on no pixel and sleep instead, between real reading, real blocks and real commits.

With them the graph can be run as wide as on a cluster on a machine that is none: what it costs, and whether it scales.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import Config
from pipeline.members import CommitContext, Written, in_order, restored_members
from pipeline.product import Product
from pipeline.records import Face, Photo
from pipeline.stages import Stage
from pipeline.watchdog import beat

SIDE = 16
"""Pixels of a simulated face: as good as nothing to carry and to encode."""


@dataclass(frozen=True)
class Naps:
    """What is slept, seconds: detect and commit per photo, restore and enhance per face.

    most_faces: a photo has one to so many, as its key decides.
    """

    detect: float = 0.0
    restore: float = 0.0
    enhance: float = 0.0
    commit: float = 0.0
    most_faces: int = 1


class SimulatedDetect(Stage):
    """Finds made-up faces in the top left corner."""

    name = "detect"
    naps = Naps()

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        self.matrix = np.array([[1, 0, 0], [0, 1, 0]], np.float64)

    def work(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            beat()
            time.sleep(self.naps.detect)
            count = 1 + zlib.crc32(photo.key.encode()) % self.naps.most_faces
            photo.width = photo.height = SIDE
            photo.faces = [self.face() for _ in range(count)]

    def face(self) -> Face:
        box, landmarks = (0.0, 0.0, float(SIDE), float(SIDE)), np.zeros((5, 2), np.float32)
        return Face(box, 1.0, landmarks, matrix=self.matrix, crop=np.zeros((SIDE, SIDE, 3), np.uint8))


class SimulatedRestore(Stage):
    """One engine, as in Restore: of two units that are there at once, one sleeps and the other waits."""

    name = "restore"
    naps = Naps()

    @classmethod
    def units(cls, config: Config) -> int:
        return 2

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        self.engine = threading.Lock()

    def work(self, photos: Sequence[Photo]) -> None:
        with self.engine:
            for photo in photos:
                beat()
                time.sleep(self.naps.restore * len(photo.faces))
        for photo in photos:
            for face in photo.faces:
                face.status, face.n, face.tau, face.evaluations = "restored", 1, 0, 1
                face.dr2 = face.image = face.crop


class SimulatedEnhance(Stage):
    """Leaves faces as they are."""

    name = "enhance"
    naps = Naps()

    def __init__(self, config: Config, face_size: int, device: str, threads: int) -> None:
        pass

    def work(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            beat()
            time.sleep(self.naps.enhance * len(photo.faces))
            photo.status = "restored"


@dataclass(frozen=True)
class SimulatedEncoding:
    """Encodes a photo for real and sleeps besides, in the commit."""

    seconds: float

    def __call__(self, photo: Photo, context: CommitContext) -> Written:
        time.sleep(self.seconds)
        return restored_members(photo, context)


def simulated(naps: Naps) -> Product:
    """What a run makes whose stages sleep: the photos as they came, as results."""
    return Product(
        "simulating",
        (
            (_sleeping(SimulatedDetect, naps), "detect"),
            (_sleeping(SimulatedRestore, naps), "restore"),
            (_sleeping(SimulatedEnhance, naps), "enhance"),
        ),
        encode=SimulatedEncoding(naps.commit) if naps.commit else restored_members,
        arrange=in_order,
    )


def _sleeping(stage: type[Stage], naps: Naps) -> type[Stage]:
    """`stage` with these naps: a class of its own, which Ray carries to its workers as it is."""
    return type(stage.__name__, (stage,), {"naps": naps, "__module__": stage.__module__})
