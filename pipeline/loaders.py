"""The models of a run, loaded in the worker that needs them. torch is imported where they are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import DR2, Config
from pipeline.models import enhancer_options, local_model
from pipeline.store.loading import detector_of, enhancer_of, parser_of, prior_of, remover_of, upscaler_of

if TYPE_CHECKING:
    from operators.detect.contract import Detector
    from operators.dr2.prior import Prior
    from operators.enhance.contract import Enhancer
    from operators.parse.parsenet import FaceParser
    from operators.restoration import DegradationRemover
    from operators.swinir_remover import SwinIRRemover
    from operators.upscale.contract import Upscaler


def load_detector(config: Config, device: str) -> Detector:
    """The detector of a run."""
    return detector_of(local_model(config, "detector").source, device)


def load_prior(config: Config, device: str) -> Prior:
    """The prior of a run."""
    found = local_model(config, "prior")
    return prior_of(found.source, device, found.settings)


def load_remover(config: Config, device: str) -> DegradationRemover | SwinIRRemover:
    """DR2 with the prior of a run and its choice of (N, tau), or the network that stands for it."""
    from operators.quality.judge import load_judge

    settings, niqe = config.restore, load_judge(config.restore.niqe, device)
    if settings.remover != DR2:
        return remover_of(local_model(config, "remover").source, device, niqe)
    from operators.quality.selection import Policy
    from operators.restoration import DegradationRemover, Fixed

    fixed = None if settings.n is None or settings.tau is None else Fixed(settings.n, settings.tau)
    return DegradationRemover(
        load_prior(config, device),
        niqe,
        seed=config.seed,
        batch=config.resources.restore.batch,
        select=fixed or Policy.load(settings.policy),
        stride=settings.stride,
    )


def load_enhancer(config: Config, device: str) -> Enhancer:
    """The enhancer of a run, working as its settings say."""
    found = local_model(config, "enhancer")
    return enhancer_of(found.source, device, enhancer_options(config), found.identity)


def load_parser(config: Config, device: str) -> FaceParser | None:
    """What masks the faces of a run; None where they are pasted back as ellipses."""
    return None if config.write.parser == "none" else parser_of(local_model(config, "parser").source, device)


def load_upscaler(config: Config, device: str) -> Upscaler:
    """What enlarges the photos of a run. Raises WeightsError for a network that cannot give `write.upscale`."""
    write = config.write
    return upscaler_of(local_model(config, "upscaler").source, device, write.upscale, write.tile)
