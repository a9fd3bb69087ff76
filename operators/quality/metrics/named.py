"""Any metric of pyiqa by its name there, such as MUSIQ, from local files of weights."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from operators.quality.judge import RUN_CODE, one_line
from operators.quality.metrics.names import Metric
from operators.quality.metrics.offline import Taken, from_folder
from operators.training.weights import WeightsError, tensors_only

POOLED = frozenset({"FID", "InceptionScore"})
"""Kinds of pyiqa's metrics that score many images at once."""

_TRIAL_SIDE = 256  # pixels; an evaluation's faces have as many unless it says otherwise


class NamedMetric:
    """Scores versions of a face by a metric of pyiqa, with the truth where it wants one.

    files: of weights, that it was made of. Let one thread of a process use it.
    """

    def __init__(self, name: str, folder: Path | None) -> None:
        """folder: holds the files as they were published, under their own names. Raises WeightsError for a name that is
        no metric of single faces, for a missing file, which it names, and for a broken one."""
        facts = facts_of(name)
        self.name = name
        self.needs_truth = facts["metric_mode"] == "FR"
        import pyiqa
        import pyiqa.archs as archs

        archs._lazy_import_arch(facts["metric_opts"]["type"])  # before its ways to the network are closed
        with from_folder(folder) as taken, tensors_only(), redirect_stdout(io.StringIO()):  # it prints what it loads
            try:
                self._metric = pyiqa.create_metric(name, device=torch.device("cpu"))
                found = self._score(_textured(0), _textured(1))
            except Exception as error:  # what a library says without its weights has many names
                raise WeightsError(_complaint(name, taken, error)) from None
        if not math.isfinite(found):
            raise WeightsError(f"pyiqa metric {name!r} has no score for an ordinary picture")
        self.files = tuple(dict.fromkeys(taken.files))

    @torch.inference_mode()
    def measure(self, images: NDArray[np.uint8], truths: NDArray[np.uint8]) -> NDArray[np.float64]:
        """images, truths: (B, H, W, 3) uint8 RGB of one shape. Returns (B,) float64, +inf for what has no score."""
        pairs = zip(_to_network(images), _to_network(truths), strict=True)
        return np.array([self._of_one(image[None], truth[None]) for image, truth in pairs], np.float64)

    def _of_one(self, image: torch.Tensor, truth: torch.Tensor) -> float:
        try:
            found = self._score(image, truth)
        except (ValueError, AssertionError, ArithmeticError, IndexError, np.linalg.LinAlgError):
            return math.inf  # it lacks the contrast or the texture that is divided by
        return found if math.isfinite(found) else math.inf

    @torch.inference_mode()
    def _score(self, image: torch.Tensor, truth: torch.Tensor) -> float:
        return float(self._metric(image, truth) if self.needs_truth else self._metric(image))


def describe(name: str) -> Metric:
    """What tables say of a metric of pyiqa. Raises WeightsError for a name that is none of single faces."""
    facts = facts_of(name)
    highest = str(facts.get("score_range", "")).rpartition(",")[2].strip(" ~")
    digits = 2 if highest.isdecimal() and int(highest) >= 10 else 3
    return Metric(name, name, higher_is_better=not facts.get("lower_better", False), digits=digits)


def facts_of(name: str) -> dict[str, Any]:
    """pyiqa's description of a metric of single faces. Raises WeightsError for another name."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    def is_known(facts: Mapping[str, Any]) -> bool:
        return facts["metric_opts"]["type"] not in RUN_CODE | POOLED

    if name in DEFAULT_CONFIGS and DEFAULT_CONFIGS[name]["metric_opts"]["type"] in RUN_CODE:
        raise WeightsError(f"pyiqa metric {name!r} runs code that it downloads from a hub; choose another")
    if name not in DEFAULT_CONFIGS or not is_known(DEFAULT_CONFIGS[name]):
        known = ", ".join(sorted(name for name, facts in DEFAULT_CONFIGS.items() if is_known(facts)))
        raise WeightsError(f"{name!r} is no metric of single faces in pyiqa; it has {known}")
    return dict(DEFAULT_CONFIGS[name])


def _complaint(name: str, taken: Taken, error: Exception) -> str:
    """One line about a metric that could not be made, and what to do."""
    if taken.missing:
        where = "name a folder that holds it" if taken.folder is None else f"put it into {taken.folder}"
        return f"pyiqa metric {name!r} needs {taken.missing[0]}, as pyiqa and torchvision publish it; {where}"
    if taken.refused or type(error).__module__.startswith("huggingface_hub"):
        return (
            f"pyiqa metric {name!r} fetches more than single files, and nothing is downloaded here "
            f"({one_line(error)}); have it in the cache of its hub, or choose another"
        )
    return f"pyiqa metric {name!r} could not be made or scores no single face ({one_line(error)})"


def _to_network(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def _textured(seed: int) -> torch.Tensor:
    """A picture with texture: (1, 3, 256, 256) in [0, 1]."""
    noise = torch.rand(1, 3, _TRIAL_SIDE // 4, _TRIAL_SIDE // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=_TRIAL_SIDE, mode="bicubic").clamp(0, 1)
