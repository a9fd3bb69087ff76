"""``dr2e train prior``: train the face DDPM that DR2 denoises with."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from jobs.training.augment import augment, to_tensor
from jobs.training.faces import aligned_faces, load_labelled
from jobs.training.memorisation import Faces, report
from jobs.training.options import data_option, training_options
from operators.dr2.checkpoints import load_prior, save_prior
from operators.dr2.prior import PriorSpec, diffuse, forward, to_target
from operators.dr2.schedule import Schedule
from operators.dr2.unet import UNet2DModel
from operators.training.loop import TrainingPlan, train
from operators.training.split import held_out

# Faces are kept a little larger than the training size, so that resampling them does not soften them.
_SUPERSAMPLING = 1.125


def small_unet(spec: PriorSpec, channels: tuple[int, ...]) -> UNet2DModel:
    """A U-Net that two CPU cores can train: one residual block a level, attention at the last but one."""
    levels, folded = len(channels), 3 * spec.patch**2
    attention = levels - 2
    return UNet2DModel(
        sample_size=spec.size // spec.patch,
        in_channels=folded,
        out_channels=folded,
        center_input_sample=False,
        freq_shift=0,
        flip_sin_to_cos=True,
        down_block_types=tuple("AttnDownBlock2D" if i == attention else "DownBlock2D" for i in range(levels)),
        up_block_types=tuple("AttnUpBlock2D" if i == levels - 1 - attention else "UpBlock2D" for i in range(levels)),
        block_out_channels=channels,
        layers_per_block=1,
        attention_head_dim=min(32, *channels),
        norm_num_groups=16,
        attn_norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
    )


class DenoisingLoss:
    """v-prediction under min-SNR weighting (Hang et al. 2023, arXiv 2303.09556), timesteps uniform below the limit.

    DR2 never denoises from pure noise, so timesteps above ``spec.max_timestep`` are left out of training.
    """

    def __init__(self, faces: np.ndarray, spec: PriorSpec, schedule: Schedule, batch: int, device: str) -> None:
        self.faces, self.spec, self.batch, self.device = faces, spec, batch, device
        self.alpha_bar = torch.from_numpy(schedule.alpha_bar).float()

    def __call__(self, model: nn.Module, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        picked = rng.integers(len(self.faces), size=self.batch)
        x0 = augment(to_tensor(self.faces[picked]), self.spec.size, rng)
        # Stratified timesteps: every batch covers the range, which lowers the variance of the loss.
        spread = (np.arange(self.batch) + rng.random(self.batch)) / self.batch
        timesteps = torch.from_numpy((spread * self.spec.max_timestep).astype(np.int64))
        noise = torch.from_numpy(rng.standard_normal(x0.shape, np.float32))
        alpha_bar = self.alpha_bar[timesteps].view(-1, 1, 1, 1)
        x, target = diffuse(x0, noise, alpha_bar), to_target(x0, noise, alpha_bar, self.spec.prediction)
        output = forward(model, x.to(self.device), timesteps.to(self.device), self.spec.patch)
        # v-loss equals (SNR + 1) times the x_0 loss; min-SNR caps the x_0 weight at 5.
        snr = alpha_bar / (1 - alpha_bar)
        weight = (snr.clamp(max=5.0) / (snr + 1)).to(self.device)
        error = (output.float() - target.to(self.device)).square()
        loss = (weight * error).mean()
        return loss, {"v_error": float(error.detach().mean())}


@click.command("prior")
@data_option
@training_options(steps=12000, lr=6e-4, batch=16)
@click.option("--size", default=128, show_default=True, help="Face side in pixels.")
@click.option("--patch", default=2, show_default=True, help="Pixel blocks of this side become channels.")
@click.option("--channels", default="32,64,128,192", show_default=True, help="Channels of the U-Net's levels.")
@click.option("--max-timestep", default=700, show_default=True, help="Train below this timestep of 1000.")
@click.option(
    "--measure-faces", default=48, show_default=True, help="Held-out faces to look for memorised ones with (0: none)."
)
def command(
    data: tuple[str, ...],
    storage_options: dict[str, str],
    plan: TrainingPlan,
    batch: int,
    size: int,
    patch: int,
    channels: str,
    max_timestep: int,
    measure_faces: int,
) -> None:
    """Train a face diffusion model on labelled shards and write OUT/prior.safetensors.

    Stop it whenever you like: the same command resumes from OUT/checkpoint.pt. Once all steps are done it looks
    for memorised training faces: a table, OUT/prior.memorisation.json and OUT/prior.neighbours.png.
    """
    spec = PriorSpec(size, prediction="v_prediction", patch=patch, max_timestep=max_timestep)
    widths = tuple(int(width) for width in channels.split(","))
    keys, faces = aligned_faces(load_labelled(data, storage_options), round(size * _SUPERSAMPLING))
    unseen = np.array([held_out(key) for key in keys])
    click.echo(f"{(~unseen).sum()} faces to train on, {unseen.sum()} held out")
    if unseen.all():
        raise click.UsageError("no face to train on: every key falls into the held-out tenth")
    torch.manual_seed(plan.seed)
    network = small_unet(spec, widths)
    schedule = Schedule.linear()
    loss = DenoisingLoss(faces[~unseen], spec, schedule, batch, plan.device)
    result = train(network.to(memory_format=torch.channels_last), loss, plan, click.echo)
    network.load_state_dict(result.ema_state)
    path = Path(plan.out) / "prior.safetensors"
    save_prior(path, network, spec, schedule, name="dr2e-prior", licence="Apache-2.0")
    click.echo(f"{path} after {result.step} steps{'' if result.finished else ' (unfinished: run again to go on)'}")
    if unseen.any():
        unseen_loss = DenoisingLoss(faces[unseen], spec, schedule, batch, plan.device)
        click.echo(
            f"v error: {error(network, loss):.4f} on faces seen, {error(network, unseen_loss):.4f} on held-out ones"
        )
    if result.finished and measure_faces and unseen.sum() > 1:  # a face needs others to be compared with
        names = [key for key, aside in zip(keys, unseen, strict=True) if aside]
        measured = Faces(faces[~unseen], faces[unseen], names)
        report(load_prior(str(path), device=plan.device), measured, measure_faces, plan.out, click.echo)


@torch.inference_mode()
def error(network: UNet2DModel, loss: DenoisingLoss, batches: int = 16) -> float:
    """Mean squared v error over seeded batches: on seen and on held-out faces alike, unless faces were memorised."""
    network.eval()
    return float(np.mean([loss(network, 0, np.random.default_rng(i))[1]["v_error"] for i in range(batches)]))
