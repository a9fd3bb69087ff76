"""The judge: what scores a face without a reference. NIQE, or any no-reference metric of pyiqa in its place."""

from __future__ import annotations

import hashlib
import math
from importlib.metadata import version
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from operators.quality.niqe import Niqe
from operators.training.weights import WeightsError, tensors_only

PYIQA = "pyiqa:"
"""What the name of another judge begins with, as in "pyiqa:musiq"."""

RUN_CODE = frozenset({"QAlign", "Compare2Score"})
"""Kinds of pyiqa's metrics that load their models with `trust_remote_code`: what their publisher puts there is run."""


class Judge(Protocol):
    """Scores images; lower is better."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what decides the scores."""

    def score(self, images: torch.Tensor) -> NDArray[np.float64]:
        """(B, 3, H, W) RGB in [0, 1] -> (B,) float64, +inf for what cannot be judged, each image on its own."""


class PyiqaJudge:
    """A no-reference metric of pyiqa, by its name there; its score is negated where more is better.

    pyiqa fetches the weights of most metrics when they are first used, and keeps them in torch's hub folder. While it
    scores it changes settings of the whole process: let one thread of a process use it, and nothing beside it.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        """Raises WeightsError for a name pyiqa does not know, weights it cannot get, and what scores no single face."""
        check_name(name)
        import pyiqa

        try:
            with tensors_only():
                self._metric = pyiqa.create_metric(name, device=torch.device(device))
        except Exception as error:  # a download that fails has many names
            raise WeightsError(
                f"pyiqa metric {name!r} could not be loaded ({one_line(error)}); "
                f"it needs its weights in {torch.hub.get_dir()}, or the network once"
            ) from None
        self._sign = 1.0 if self._metric.lower_better else -1.0
        self._device = torch.device(device)
        self.fingerprint = fingerprint_of(name)
        with torch.inference_mode():
            try:
                with tensors_only():  # some load the rest when they are first used
                    found = float(self._metric(_textured().to(self._device)))
            except Exception as error:  # it wants a caption, or many images, or more pixels
                raise WeightsError(f"pyiqa metric {name!r} scores no single face: {one_line(error)}") from None
        if not math.isfinite(found):
            raise WeightsError(f"pyiqa metric {name!r} has no score for an ordinary face")

    @torch.inference_mode()
    def score(self, images: torch.Tensor) -> NDArray[np.float64]:
        """See `Judge`. One image at a time: pyiqa fails, and sometimes scores, by the batch."""
        return np.array([self._of_one(image[None].float()) for image in images], np.float64)

    def _of_one(self, image: torch.Tensor) -> float:
        if not torch.isfinite(image).all():
            return math.inf
        try:
            found = float(self._metric(image.to(self._device)))
        except (ValueError, AssertionError, ArithmeticError, IndexError, np.linalg.LinAlgError):
            return math.inf  # it lacks the contrast or the texture that is divided by; a RuntimeError is the machine's
        return self._sign * found if math.isfinite(found) else math.inf


def load_judge(source: str, device: str | torch.device = "cpu") -> Judge:
    """The judge "builtin", of a file written by `dr2e fit-niqe`, or "pyiqa:NAME". Raises WeightsError."""
    if source.startswith(PYIQA):
        return PyiqaJudge(source.removeprefix(PYIQA), device)
    return Niqe.load(source)


def check_name(name: str) -> None:
    """Raises WeightsError for a name that is no no-reference metric of pyiqa, or one that runs code of a hub."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    types = {
        key: value["metric_opts"]["type"] for key, value in DEFAULT_CONFIGS.items() if value.get("metric_mode") == "NR"
    }
    known = sorted(key for key, kind in types.items() if kind not in RUN_CODE)
    if types.get(name) in RUN_CODE:
        raise WeightsError(f"pyiqa metric {name!r} runs code that it downloads from a hub; choose another")
    if name not in known:
        raise WeightsError(f"{name!r} is no no-reference metric of pyiqa; it has {', '.join(known)}")


def fingerprint_of(name: str) -> str:
    """A metric of pyiqa is identified by its name and the package's version; nobody records what weights it fetched."""
    return hashlib.sha256(f"pyiqa {version('pyiqa')} {name}".encode()).hexdigest()


def one_line(error: Exception) -> str:
    """The error's type and message, one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _textured() -> torch.Tensor:
    """A picture as large as a face of the built-in prior, with texture: (1, 3, 128, 128) in [0, 1]."""
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, size=128, mode="bicubic").clamp(0, 1)
