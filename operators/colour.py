"""Embedded colour profiles: what the numbers of a picture mean, brought to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image, ImageCms

_SOURCE_MODES = {"RGB ": "RGB", "CMYK": "CMYK"}  # ICC colour space -> Pillow mode


def to_srgb(image: Image.Image) -> Image.Image:
    """`image` as an sRGB picture of mode "RGB", if it is in RGB or CMYK and embeds a profile that fits.

    Everything else comes back as it is: no profile, sRGB itself, a damaged profile or one of another colour
    space. Perceptual intent, as viewers show it. Phones tag Display P3, presses CMYK; without this their
    colours turn dull or garish as soon as the profile is gone.
    """
    data = image.info.get("icc_profile")
    if not data or image.mode not in _SOURCE_MODES.values():
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if _SOURCE_MODES.get(profile.profile.xcolor_space) != image.mode or _is_srgb(profile):
            return image
        converted = ImageCms.profileToProfile(image, profile, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if converted is None else converted


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    return "srgb" in (profile.profile.profile_description or "").lower()
