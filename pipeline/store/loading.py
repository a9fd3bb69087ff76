"""Models of local files, built as their kinds want it. torch is imported where they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from operators.enhance.contract import DEFAULTS, Identity, Options

if TYPE_CHECKING:
    from operators.detect.contract import Detector
    from operators.dr2.prior import Prior
    from operators.enhance.contract import Enhancer


def enhancer_of(source: str, device: str, options: Options = DEFAULTS, identity: Identity | None = None) -> Enhancer:
    """The enhancer "builtin", "none", or of a weights file. Raises WeightsError, UnknownEnhancer, OptionError."""
    from operators.enhance import registry

    enhancer = registry.load(source, device, options=options, identity=identity)
    options.fidelity_of(enhancer.descriptor)  # not every enhancer looks at its options
    options.precision_of(enhancer.descriptor)
    return enhancer


def prior_of(source: str, device: str, settings: Mapping[str, Any] | None = None) -> Prior:
    """The prior "builtin", of a file, of a diffusers folder or of the hub. settings: what its files do not say, see
    `Record`. Raises WeightsError."""
    from operators.dr2.checkpoints import load_prior
    from operators.training.weights import WeightsError

    told = settings or {}
    for name, known in (("attention", "legacy"), ("schedule", "linear")):
        if told.get(name, known) != known:
            raise WeightsError(f"{source}: a prior whose {name} is {told[name]!r} cannot be loaded; only {known!r} can")
    return load_prior(source, device=device, size=told.get("size"))


def detector_of(source: str, device: str) -> Detector:
    """The detector "builtin", of a weights file, or "retinaface:FOLDER". Raises WeightsError."""
    from operators.detect.retinaface import WEIGHTS, RetinaFaceDetector

    kind, _, folder = source.partition(":")
    if kind == "retinaface":
        return RetinaFaceDetector.load(folder, device)
    if Path(source).name == WEIGHTS:
        return RetinaFaceDetector.load(Path(source).parent, device)
    from operators.detect.builtin import BuiltinDetector

    return BuiltinDetector.load(source, device)
