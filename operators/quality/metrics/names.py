"""The metrics of an evaluation: what they are called, which way is better, and which files they need.

Nothing large is imported here, so that the driver can name metrics without loading any.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightFile:
    """A published file of weights. note: its licence, and what else a user must know."""

    name: str
    note: str


@dataclass(frozen=True)
class Metric:
    """name: as in files and JSON. label: for people. digits: behind the point, in tables.

    pooled: it compares all faces at once, so a single face has none. files: weights it needs, all of them.
    """

    name: str
    label: str
    higher_is_better: bool
    digits: int
    pooled: bool = False
    files: tuple[WeightFile, ...] = ()

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"


LPIPS_HEADS = WeightFile("LPIPS_v0.1_alex-df73285e.pth", "BSD-2-Clause")
LPIPS_BACKBONE = WeightFile("alexnet-owt-7be5be79.pth", "torchvision, BSD-3-Clause; trained on ImageNet")
FID_INCEPTION = WeightFile("pt_inception-2015-12-05-6726825d.pth", "pytorch-fid, Apache-2.0; trained on ImageNet")
ARCFACE = WeightFile("recognition_arcface_ir_se50.pth", "facexlib, MIT; see there for its training data")

METRICS = (
    Metric("psnr", "PSNR, dB", True, 2),
    Metric("ssim", "SSIM", True, 3),
    Metric("ms_ssim", "MS-SSIM", True, 3),
    Metric("gmsd", "GMSD", False, 3),
    Metric("niqe", "NIQE", False, 2),
    Metric("lpips", "LPIPS", False, 3, files=(LPIPS_HEADS, LPIPS_BACKBONE)),
    Metric("fid", "FID", False, 1, pooled=True, files=(FID_INCEPTION,)),
    Metric("arcface", "ArcFace, °", False, 1, files=(ARCFACE,)),
)
"""In the order of tables."""


def metrics_called(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, in the order of tables, those of pyiqa after the others. A name that nobody has any
    more is left out."""
    wanted = set(names)
    found = [metric for metric in METRICS if metric.name in wanted]
    others = sorted(wanted - {metric.name for metric in found})
    if others:
        from operators.quality.metrics.named import describe  # pyiqa
        from operators.training.weights import WeightsError

        for name in others:
            with suppress(WeightsError):
                found.append(describe(name))
    return found


def measurable(folder: Path | None) -> tuple[list[Metric], list[Metric]]:
    """(metrics that can be measured with the weights in `folder`, those that lack a file)."""

    def is_there(metric: Metric) -> bool:
        return all(folder is not None and (folder / file.name).is_file() for file in metric.files)

    return [m for m in METRICS if is_there(m)], [m for m in METRICS if not is_there(m)]
