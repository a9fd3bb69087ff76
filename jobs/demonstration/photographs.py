"""Public-domain photographs that installed packages bring along, with the faces marked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Photograph:
    """A sharp photograph.

    pixels: (H, W, 3) uint8 RGB. faces: per person (5, 2) float64 landmarks in pixels: eye, eye, nose tip, mouth
    corner, mouth corner, from the photograph's left. credit: who and whence.
    """

    name: str
    pixels: NDArray[np.uint8]
    faces: tuple[NDArray[np.float64], ...]
    credit: str


def eileen_collins() -> Photograph:
    """Portrait of 512 x 512 px; the face measures about a third of it."""
    from skimage import data

    return Photograph(
        "eileen-collins",
        np.asarray(data.astronaut(), np.uint8),
        (np.array([(203, 101), (247, 103.5), (224, 124), (203.5, 140), (244.5, 141.5)], np.float64),),
        "Eileen Collins, NASA, public domain; from scikit-image",
    )


def grace_hopper() -> Photograph:
    """Portrait of 512 x 600 px; the face measures about two thirds of its width."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Photograph(
        "grace-hopper",
        pixels,
        (np.array([(222, 191), (306.5, 188), (267.5, 233), (231, 280), (304, 277)], np.float64),),
        "Grace Hopper, United States Navy, public domain; from matplotlib",
    )


def cup_of_coffee() -> Photograph:
    """600 x 400 px without a face."""
    from skimage import data

    return Photograph(
        "cup-of-coffee",
        np.asarray(data.coffee(), np.uint8),
        (),
        "Cup of coffee, Rachel Michetti, CC0; from scikit-image",
    )


def side_by_side(left: Photograph, right: Photograph) -> Photograph:
    """One photograph of both, as high as the lower one; the higher one loses its bottom."""
    height = min(len(left.pixels), len(right.pixels))
    shift = np.array([left.pixels.shape[1], 0.0])
    return Photograph(
        f"{left.name}-and-{right.name}",
        np.concatenate([left.pixels[:height], right.pixels[:height]], axis=1),
        left.faces + tuple(face + shift for face in right.faces),
        f"{left.credit}; {right.credit}",
    )
