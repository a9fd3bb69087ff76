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
    from operators.parse.parsenet import FaceParser
    from operators.quality.judge import Judge
    from operators.swinir_remover import SwinIRRemover
    from operators.upscale.contract import Upscaler


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
    from operators.dr2.guided_diffusion import Undeclared

    return load_prior(source, device=device, undeclared=Undeclared.of(settings or {}))


def detector_of(source: str, device: str) -> Detector:
    """The detector "builtin", of a weights file of ours or facexlib's, or of "retinaface:" and such a file or its
    folder. Raises WeightsError."""
    from operators.detect.retinaface import RetinaFaceDetector, source_of

    if (published := source_of(source)) is not None:
        return RetinaFaceDetector.load(published, device)
    from operators.detect.builtin import BuiltinDetector

    return BuiltinDetector.load(source, device)


def parser_of(source: str, device: str) -> FaceParser:
    """The parser of a weights file. Raises WeightsError."""
    from operators.parse.parsenet import FaceParser

    return FaceParser.load(Path(source), device)


def remover_of(source: str, device: str, judge: Judge | None = None) -> SwinIRRemover:
    """The network of a weights file that stands for DR2. judge: scores its faces; without one the built-in NIQE.
    Raises WeightsError."""
    from operators.quality.judge import load_judge
    from operators.swinir_remover import SwinIRRemover

    return SwinIRRemover.load(Path(source), judge or load_judge("builtin", device), device)


def upscaler_of(source: str, device: str, scale: int | None = None, tile: int = 256) -> Upscaler:
    """What enlarges photos: "bicubic", or a network. scale: how many times; None: as many as the network does.
    Raises WeightsError."""
    from operators.upscale import registry
    from operators.upscale.network import scale_of

    return registry.load(source, scale or scale_of(Path(source)), device, tile=tile)


def metric_of(folder: Path) -> object:
    """The metric whose files are in a folder, under the names they were published with. Raises WeightsError where it
    holds those of none."""
    from operators.quality.metrics.names import ARCFACE, FID_INCEPTION, LPIPS_BACKBONE, LPIPS_HEADS
    from operators.training.weights import WeightsError

    if (folder / ARCFACE.name).is_file():
        from operators.quality.metrics.arcface import ArcFace

        return ArcFace(folder)
    if (folder / FID_INCEPTION.name).is_file():
        from operators.quality.metrics.fid import Inception

        return Inception(folder)
    if any((folder / file.name).is_file() for file in (LPIPS_HEADS, LPIPS_BACKBONE)):
        from operators.quality.metrics.lpips import Lpips

        return Lpips(folder)
    raise WeightsError(f"{folder} holds no weights of a metric; get one with 'dr2e models pull'")
