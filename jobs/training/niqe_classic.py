"""The pristine model published with NIQE, read from the files other toolboxes carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from operators.quality.niqe import Niqe
from operators.training.weights import WeightsError

PATCH = 96
"""Side of the patches the published model was fitted to, in pixels."""

_MEANS = ("mu_prisparam", "mu_pris_param")
_COVARIANCES = ("cov_prisparam", "cov_pris_param")


def load_classic(path: Path, patch: int = PATCH) -> Niqe:
    """Reads the authors' MATLAB file (mu_prisparam, cov_prisparam) or BasicSR's .npz of the same numbers.

    patch: side of the patches to score with, in pixels; another than PATCH departs from the publication.
    Raises WeightsError naming the file when it does not hold the two arrays.
    """
    try:
        arrays = dict(np.load(path)) if path.suffix == ".npz" else scipy.io.loadmat(path)
        return Niqe(_named(arrays, _MEANS).ravel(), _named(arrays, _COVARIANCES), patch)
    except (OSError, ValueError, KeyError, MatReadError) as error:
        raise WeightsError(f"{path} does not hold NIQE's mu_prisparam and cov_prisparam ({error})") from error


def _named(arrays: dict[str, NDArray[np.float64]], names: tuple[str, ...]) -> NDArray[np.float64]:
    found = next((arrays[name] for name in names if name in arrays), None)
    if found is None:
        raise KeyError(f"no {names[0]}")
    return found.astype(np.float64)
