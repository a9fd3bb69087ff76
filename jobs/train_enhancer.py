"""``dr2e train enhancer``: train the network that makes DR2's soft faces sharp."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from jobs.training.enhancer_figures import contact_sheet, measure, table
from jobs.training.enhancer_pairs import Mix
from jobs.training.options import training_options
from jobs.training.sources import FromFaces, FromPairs, Source
from operators import weights
from operators.dr2.checkpoints import load_prior
from operators.enhance.builtin import KIND, BuiltinEnhancer, save_enhancer
from operators.enhance.critic import Adversaries, adversarial_loss
from operators.enhance.loss import enhancement_loss
from operators.enhance.network import FaceEnhancer, NetworkConfig
from operators.training.loop import TrainingPlan, train
from operators.training.weights import WeightsError, load_weights, sha256_file

_SHEET_ROWS = 12

Draw = Callable[[int, np.random.Generator, int], tuple[Tensor, Tensor]]


class PairLoss:
    """The loss of one step: draw a batch of pairs, enhance, compare.

    draw: (count, rng, step) -> inputs and targets, float32 in [-1, 1]. The critic takes part from step critic_from on.
    """

    def __init__(self, draw: Draw, batch: int, device: str, *, critic_from: int, critic_weight: float) -> None:
        self.draw, self.batch, self.device = draw, batch, device
        self.critic_from, self.critic_weight = critic_from, critic_weight

    def __call__(self, model: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, Mapping[str, float]]:
        inputs, targets = self.draw(self.batch, rng, step)
        assert isinstance(model, Adversaries)
        enhanced = model.enhancer(inputs.to(self.device, memory_format=torch.channels_last)).float()
        targets = targets.to(self.device)
        # Variances in SSIM are small differences of large numbers: bfloat16 has not the digits for them.
        with torch.autocast(enhanced.device.type, enabled=False):
            loss, parts = enhancement_loss(enhanced, targets)
        critic = torch.zeros(())
        if step >= self.critic_from and self.critic_weight:
            critic = adversarial_loss(model.critic, enhanced, targets, self.critic_weight)
        return loss + critic, {**parts, "critic": float(critic.detach())}


@click.command("enhancer")
@click.option(
    "--data", multiple=True, help="Shards of labelled photos, as for the other models; pairs are made on the way."
)
@click.option("--pairs", "pairs_url", metavar="URL", help="Or the output of 'dr2e pairs', here or s3://, streamed.")
@training_options(steps=4000, lr=5e-4, batch=8)
@click.option("--size", default=128, show_default=True, help="Face side that goes in; twice comes out.")
@click.option("--prior", "prior_source", default="builtin", show_default=True, help="With --data: makes the pairs.")
@click.option("--dr2-faces", default=640, show_default=True, help="With --data: DR2 runs once on so many faces.")
@click.option("--dr2-share", default=0.6, show_default=True, help="With --data: share of pairs of DR2.")
@click.option("--dr2-from", default=0, show_default=True, help="With --data: no pair of DR2 before this step.")
@click.option("--critic-weight", default=0.0, show_default=True, help="Weight of the critic in the enhancer's loss.")
@click.option("--critic-from", default=0, show_default=True, help="The critic is idle before this step.")
@click.option(
    "--begin", metavar="MODEL", help="Weights to begin with: 'builtin' or a file of this command; else drawn ones."
)
@click.option(
    "--blend",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Weights of an enhancer that began as this one did, mixed into the result.",
)
@click.option("--blend-share", default=0.5, show_default=True, help="Share of --blend's weights in the result.")
@click.option("--grey-share", default=0.3, show_default=True, help="Share of pairs without colour.")
@click.option("--measure-faces", default=48, show_default=True, help="Held-out faces, or pairs, to measure on.")
def command(
    data: tuple[str, ...],
    pairs_url: str | None,
    storage_options: dict[str, str],
    plan: TrainingPlan,
    batch: int,
    size: int,
    prior_source: str,
    dr2_faces: int,
    dr2_share: float,
    dr2_from: int,
    critic_weight: float,
    critic_from: int,
    begin: str | None,
    blend: Path | None,
    blend_share: float,
    grey_share: float,
    measure_faces: int,
) -> None:
    """Train a face enhancer and write OUT/enhancer.safetensors.

    It learns from labelled shards (--data), of whose faces pairs are made on the way, or from the pairs of 'dr2e pairs'
    (--pairs), streamed shard by shard. Beside the weights: figures.json and heldout.png, measured on the held-out tenth
    of the faces or on the validation pairs. With --dr2-share 0 no prior is needed. Stop it whenever you like: the same
    command resumes from OUT/checkpoint.pt, with the very batches it would have seen.
    """
    if bool(data) == bool(pairs_url):
        raise click.UsageError("give either --data, shards of labelled photos, or --pairs, an output of 'dr2e pairs'")
    config = NetworkConfig()
    try:
        config.check_sides(size)
        mix = Mix(dr2_share, grey_share)
        prior = load_prior(prior_source, device=plan.device) if dr2_share and data else None
        first = weights.builtin("enhancer") if begin == "builtin" else Path(begin) if begin else None
        start = load_weights(first, KIND)[0] if first else None
        other = load_weights(blend, KIND)[0] if blend else None
        if other is not None:
            interpolated(FaceEnhancer(config).state_dict(), other, blend_share)  # refused now, not after training
    except (ValueError, WeightsError) as error:
        raise click.UsageError(str(error)) from error
    if prior is not None and prior.size != size:
        raise click.UsageError(f"prior {prior.name!r} makes {prior.size} px faces, but --size is {size}")
    source: Source
    if pairs_url:
        source = FromPairs(
            pairs_url, storage_options, plan, size, grey=mix.grey, measure_faces=measure_faces, say=click.echo
        )  # fmt: skip
    else:
        source = FromFaces(
            data, storage_options, plan, size, mix, prior,
            dr2_faces=dr2_faces, dr2_from=dr2_from, measure_faces=measure_faces, say=click.echo,
        )  # fmt: skip

    begun_with, dataset = sha256_file(first) if first else None, source.facts.get("dataset")
    if begun_with or dataset:  # else the many faces of --data, which may grow
        plan = replace(plan, learned_from=json.dumps({"begin": begun_with, "dataset": dataset}))
    torch.manual_seed(plan.seed)
    networks = Adversaries(config).to(memory_format=torch.channels_last)
    if start is not None:
        try:
            networks.enhancer.load_state_dict(start)
        except RuntimeError:
            raise WeightsError(f"{begin} is another network than the one trained here") from None
    loss = PairLoss(source.draw, batch, plan.device, critic_from=critic_from, critic_weight=critic_weight)
    result = train(networks, loss, plan, click.echo)
    state = {
        name.removeprefix("enhancer."): value
        for name, value in result.ema_state.items()
        if name.startswith("enhancer.")
    }
    if other is not None:
        state = interpolated(state, other, blend_share)
    path = plan.out / "enhancer.safetensors"
    facts = {
        "steps": result.step, "batch": batch, "seed": plan.seed, "lr": plan.lr, "ema_half_life": plan.ema,
        **source.facts, "critic_weight": critic_weight, "critic_from": critic_from,
        "begin": begun_with,
        "blend": {"sha256": sha256_file(blend), "share": blend_share} if blend else None,
    }  # fmt: skip
    save_enhancer(
        path, state, config,
        name="dr2e-enhancer", licence=source.licence, input_size=size, training=facts,
    )  # fmt: skip
    unfinished = "" if result.finished else " (unfinished: run again to go on)"
    click.echo(f"{path} after {result.step} steps{unfinished}")
    if (measured := source.held_out()) is not None:
        _report(path, plan, *measured)


def interpolated(first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between two networks' (network interpolation: Wang et al. 2018, arXiv 1809.00219, section 3.4).

    Of two networks with a common beginning, one trained on with a critic and one without, these are between the two
    in sharpness, while averaging their images would show every edge twice. share: of `second`, 0 to 1.
    Raises ValueError for another share, WeightsError for different shapes.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"--blend-share: a share lies in [0, 1], got {share}")
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        raise WeightsError("--blend: another network than the one trained here")
    return {name: torch.lerp(value.float().cpu(), second[name].float(), share) for name, value in first.items()}


def _report(path: Path, plan: TrainingPlan, inputs: Mapping[str, NDArray[np.uint8]], truth: NDArray[np.uint8]) -> None:
    """Write figures.json and heldout.png beside the weights, and print the table."""
    enhancer = BuiltinEnhancer(path, plan.device)
    figures = measure(enhancer, inputs, truth)
    (plan.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    Image.fromarray(contact_sheet(enhancer, inputs, truth, _SHEET_ROWS)).save(plan.out / "heldout.png")
    click.echo(table(figures))
