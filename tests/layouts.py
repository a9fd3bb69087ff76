"""Checkpoints of every published prior and enhancer, small, as their publishers lay them out, with drawn weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published import DATA, layout, normal, save, seeded, shapes
from small_models import guided_diffusion, small_enhancer, small_prior
from torch import Tensor

GOLDEN = np.load(DATA / "enhancers.npz")
"""See tests/data/README.md."""

GFPGAN: dict[str, Any] = {
    "out_size": 128, "num_style_feat": 16, "channel_multiplier": 1, "narrow": 1 / 16, "num_mlp": 2,
}  # fmt: skip
RESTOREFORMER: dict[str, Any] = {
    "n_embed": 16, "embed_dim": 32, "z_channels": 32, "ch": 32, "ch_mult": (1,) * 6, "num_res_blocks": 1,
}  # fmt: skip
CODEFORMER: dict[str, Any] = {"dim_embd": 32, "n_layers": 1, "codebook_size": 16}
"""The smallest that spandrel builds: what surrounds its layers is as large as published, for faces of 512 px."""


def of_sparnet(keys: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights of SPARNetHD, with the singular vectors that a few power iterations make of drawn ones."""
    drawn = seeded(keys)
    for key in keys:
        if key.endswith(".weight_u"):
            matrix, left = drawn[key.replace("weight_u", "weight_orig")].flatten(1), drawn[key]
            for _ in range(5):
                right = torch.nn.functional.normalize(matrix.T @ left, dim=0)
                left = torch.nn.functional.normalize(matrix @ right, dim=0)
            drawn[key], drawn[key.replace("weight_u", "weight_v")] = left, right
    return fainter(drawn)


def fainter(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """SPARNetHD with its picture a third as strong, so that not most of it is clamped."""
    last = "out_conv.conv2d.weight_u"
    return state | {last: 3 * state[last]}


def of_gpen(keys: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights as StyleGAN2 keeps them: not scaled by their number of inputs, which the network does."""
    state = seeded(keys)
    smoothing = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    for key, shape in keys.items():
        if key.endswith(".kernel"):  # a little lopsided, so that turning one round shows
            gain = 4 if key.startswith("generator") else 1
            state[key] = torch.from_numpy(gain * smoothing.astype(np.float32)) + 0.02 * state[key]
        elif len(shape) > 1:
            state[key] = torch.from_numpy(normal(key, shape))
            if key.startswith("generator.style."):
                state[key] *= 100  # the mapping's rate of learning is 0.01
            elif "to_rgb" in key:
                state[key] *= 0.25  # a picture that is not clamped almost everywhere
        elif key.endswith("modulation.bias"):
            state[key] = 1 + state[key]
    return state


def of_spandrel(name: str, sizes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of a network of spandrel's."""
    from operators.weights.through_spandrel import module  # which may not be installed

    return seeded(shapes(getattr(module(name), name)(**sizes)))


ENHANCERS: dict[str, Callable[[Path], Path]] = {
    "sparnethd": lambda folder: save(
        folder / "SPARNetHD_V4_Attn2D_net_H-epoch10.pth", of_sparnet(layout(GOLDEN, "sparnethd_64"))
    ),
    "vqfr-v1": lambda folder: save(
        folder / "VQFR_v1-33a1fac5.pth", seeded(layout(GOLDEN, "vqfr_v1_small")), "params_ema"
    ),
    "vqfr-v2": lambda folder: save(folder / "VQFR_v2.pth", seeded(layout(GOLDEN, "vqfr_v2_small")), "params"),
    "gpen": lambda folder: save(folder / "GPEN-BFR-512.pth", of_gpen(layout(GOLDEN, "gpen_small"))),
    "gfpgan": lambda folder: save(folder / "GFPGANv1.4.pth", of_spandrel("GFPGAN", GFPGAN), "params_ema"),
    "restoreformer": lambda folder: save(
        folder / "RestoreFormer.pth", of_spandrel("RestoreFormer", RESTOREFORMER), "params"
    ),
    "codeformer": lambda folder: save(folder / "codeformer.pth", of_spandrel("CodeFormer", CODEFORMER), "params_ema"),
    "dr2e": lambda folder: small_enhancer(folder / "enhancer.safetensors"),
}
"""What writes the checkpoint of an enhancer into a folder."""


PUBLISHED: dict[str, Callable[[], tuple[dict[str, Tensor], str]]] = {
    "SPARNetHD.pth": lambda: (of_sparnet(layout(GOLDEN, "sparnethd_512")), ""),
    "VQFR_v1.pth": lambda: (seeded(layout(GOLDEN, "vqfr_v1_512")), "params_ema"),
    "VQFR_v2.pth": lambda: (seeded(layout(GOLDEN, "vqfr_v2_512")), "params"),
    "GPEN-512.pth": lambda: (of_gpen(layout(GOLDEN, "gpen_512")), ""),
    "GFPGAN.pth": lambda: (of_spandrel("GFPGAN", {}), "params_ema"),
    "RestoreFormer.pth": lambda: (of_spandrel("RestoreFormer", {}), "params"),
    "CodeFormer.pth": lambda: (of_spandrel("CodeFormer", {}), "params_ema"),
}
"""Enhancers as large as they are published, and what their checkpoints keep the network under."""


def write_published(folder: Path) -> list[Path]:
    """Checkpoints as large as the published ones, to measure time and memory on: enhancers, and in `prior` a prior."""
    (folder / "prior").mkdir(parents=True, exist_ok=True)
    keys = json.loads((DATA / "unet_guided_diffusion_256.keys.json").read_text(encoding="utf-8"))
    prior = save(folder / "prior" / "unet.pt", seeded(keys))
    return [prior, *(save(folder / name, *of()) for name, of in PUBLISHED.items())]


def _diffusers(folder: Path, **schedule: Any) -> Path:
    """A prior in diffusers' layout for faces of 64 px, with this schedule besides."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=64, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    network.save_pretrained(folder)
    declared = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02}
    (folder / "scheduler_config.json").write_text(json.dumps(declared | schedule), encoding="utf-8")
    return folder


PRIORS: dict[str, Callable[[Path], Path]] = {
    "ilvr": lambda folder: save(folder / "ffhq_10m.pt", guided_diffusion()),
    "p2": lambda folder: save(folder / "ffhq_p2.pt", guided_diffusion()),
    "dr2": lambda folder: save(folder / "DR2_FFHQ.pkl", guided_diffusion()),
    "ddpm": lambda folder: _diffusers(folder / "ddpm", variance_type="fixed_small", prediction_type="epsilon"),
    "ddpm-v": lambda folder: _diffusers(
        folder / "ddpm-v",
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_large",
        prediction_type="v_prediction",
    ),
    "dr2e": lambda folder: small_prior(folder / "prior.safetensors", 64),
}
"""What writes a prior for faces of 64 px into a folder. A file in guided-diffusion's layout does not say their size."""


if __name__ == "__main__":
    for path in write_published(Path(sys.argv[1])):
        print(path)
