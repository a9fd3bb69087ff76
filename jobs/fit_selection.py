"""``dr2e fit-selection``: fit what chooses (N, tau) to faces whose whole grid an evaluation has measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from jobs.options import parse_storage, storage_options
from operators.quality.metrics.names import METRICS
from operators.quality.selection import Policy
from operators.quality.selection_fit import Fitted, fit
from operators.restoration import STEP
from operators.training.split import held_out
from pipeline.config import build
from pipeline.evaluation.choice.examples import DECIBEL, examples
from pipeline.evaluation.choice.publish import measure_choice
from pipeline.evaluation.choice.rechoose import rechosen
from pipeline.evaluation.driver import SETTINGS, recorded, results
from pipeline.evaluation.measure import FACES
from pipeline.evaluation.results import PhotoResult
from pipeline.evaluation.settings import Evaluate, EvaluationConfig
from pipeline.ledger import LedgerError
from pipeline.models import Models, describe
from pipeline.storage import Location


@click.command("fit-selection")
@click.argument("evaluation", metavar="EVALUATION")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The policy to write.")
@click.option("--measure", metavar="EVALUATION", help="Also say what it would have chosen on the faces stored there.")
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="Write what was fitted here, Markdown.")
@storage_options
def command(evaluation: str, out: Path, measure: str | None, card: Path | None, storage_options: str | None) -> None:
    """Fit the policy that chooses N and tau per face, to the models that an evaluation was made with.

    EVALUATION is the output of 'dr2e evaluate --select'. Only its training keys are used, and what it has stored so
    far: the held-out tenth is for measuring. Choices are judged by SSIM and PSNR to the undegraded face: what the
    enhancer makes of DR2's output counts twice, that output itself once, because an enhancer that was trained on the
    damage at hand forgives a wrong pair, and another may not.

    \b
      dr2e evaluate --input faces/ --output grids --select --grid-step 100
      dr2e evaluate --input faces/ --output choice --select --held-out
      dr2e fit-selection grids --out policy.safetensors --measure choice
      dr2e restore --policy policy.safetensors ...
    """
    location = Location(evaluation, parse_storage(storage_options))
    photos, made = stored(location)
    training = [photo for photo in photos if not held_out(photo.key)]
    known = examples(training, location.url)
    try:
        fitted = fit(known)
    except ValueError as error:
        raise LedgerError(f"{location.url}: {error}") from None
    facts = description(made, len(training), location.url)
    fitted.policy.save(out, facts)
    told = summary(fitted, facts)
    if measure is not None:
        told += "\n\n" + measured(Location(measure, parse_storage(storage_options)), fitted.policy)
    click.echo(told)
    if card is not None:
        card.write_text(told + "\n", encoding="utf-8")


def stored(location: Location) -> tuple[list[PhotoResult], Mapping[str, Any]]:
    """The measured photos of an evaluation in order, and its record. Raises LedgerError where there is none."""
    made = recorded(location)
    names = [entry.name for entry in location.entries(FACES)]
    if made is None or not names:
        raise LedgerError(f"{location.url} holds no evaluation; make one with 'dr2e evaluate --select'")
    photos = [photo for photo in results(location, names) if photo.status == "measured"]
    return sorted(photos, key=lambda photo: (photo.shard, photo.key)), made


def measured(location: Location, policy: Policy) -> str:
    """The page of an evaluation, Markdown, had its run chosen by `policy`. Raises LedgerError where it has no grid."""
    photos, made = stored(location)
    try:
        config, models = configured(made)
        stride, last_step = config.restore.stride // STEP, models.max_timestep // STEP - 1
        faces = [rechosen(face, policy, last_step=last_step, stride=stride) for photo in photos for face in photo.faces]
        metrics = [metric for metric in METRICS if all(metric.name in face.versions[0].values for face in faces)]
        return measure_choice(config, models, metrics, faces).page
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{location.url} holds no grid that this policy can choose from ({error})") from None


def configured(made: Mapping[str, Any]) -> tuple[EvaluationConfig, Models]:
    """The configuration and the models in the record of an evaluation."""
    settings = dict(made["config"])
    section = Evaluate(**settings.pop("evaluate"))
    config = build({**settings, "input": "stored", "output": "stored"})
    return EvaluationConfig.of(config, section), describe(config)


def description(made: Mapping[str, Any], photos: int, name: str) -> dict[str, Any]:
    """Facts that travel with the policy: what it was fitted with, by name and hash.

    made: the record of the evaluation called `name`. Raises LedgerError when it lacks them.
    """
    try:
        models = {role: made["models"][role] for role in ("prior", "niqe", "enhancer")}
        return {
            "name": "dr2e-policy",
            "licence": "Apache-2.0",
            "faces": photos,
            "stride": int(made["config"]["restore"]["stride"]),
            "fitted_with": {role: {"name": model["name"], "sha256": model["sha256"]} for role, model in models.items()},
        }
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{name}/{SETTINGS} is damaged ({type(error).__name__}: {error}); evaluate again") from None


def summary(fitted: Fitted, facts: Mapping[str, Any]) -> str:
    """What was fitted, Markdown."""
    policy, models = fitted.policy, facts["fitted_with"]
    kept = "none" if fitted.kept is None else f"{fitted.kept:.0%}"
    taus = ", ".join(str(step * STEP) for step in policy.probe)
    made_with = ", ".join(f"{role} {model['name']} {model['sha256'][:8]}" for role, model in models.items())
    return f"""Fitted to {facts["faces"]} faces with {made_with}, stride {facts["stride"]}.

- kept as it came: NIQE at most {policy.natural:.3f}, {kept} of the undegraded faces
- probe: {len(policy.probe)} denoising steps, tau = {taus}
- pairs to choose from: {len(policy.pairs)}; least fidelity {policy.faithful}
- penalty {fitted.penalty:g}

| choice | mean quality on degraded faces |
| --- | --- |
| one pair for all, the best of these faces | {fitted.best_pair:.4f} |
| the policy, cross-validated | {fitted.quality:.4f} |
| each face's best pair | {fitted.best:.4f} |

Quality: SSIM + {DECIBEL:g} x PSNR in dB; of the enhanced face, which counts twice, and of DR2's output."""
