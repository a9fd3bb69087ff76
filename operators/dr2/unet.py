"""diffusers' U-Net and scheduler, imported without what they never use here.

diffusers imports transformers, bitsandbytes, accelerate, PEFT and SciPy where they are installed, and pyiqa brings most
of them along: three CPU seconds and 120 MB in every worker (`python -X importtime`). It asks these switches first.
"""

from __future__ import annotations

from diffusers.utils import import_utils

for _library in ("accelerate", "bitsandbytes", "peft", "scipy", "transformers"):
    setattr(import_utils, f"_{_library}_available", False)

from diffusers import DDPMScheduler, UNet2DModel  # noqa: E402  (the switches come first)

__all__ = ["DDPMScheduler", "UNet2DModel"]
