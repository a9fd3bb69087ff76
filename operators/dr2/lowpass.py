"""The low-pass filter Phi_N of DR2 (Eq. 10): bicubic down by N, then bicubic up by N.

Both resizings are linear and separable, so the filter is one S x S matrix M_N applied to rows and
columns: ``Phi_N(x) = M_N x M_N^T``. The matrix is computed once per (S, N).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_A = -0.5  # Keys' bicubic parameter, as in the published code


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = (_A + 2) * x**3 - (_A + 3) * x**2 + 1
    far = _A * x**3 - 5 * _A * x**2 + 8 * _A * x - 4 * _A
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def resize_matrix(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) float64 matrix of antialiased bicubic resizing with mirrored borders; rows sum to 1."""
    scale = target / source
    stretch = max(1.0, 1.0 / scale)  # antialiasing: widen the kernel when shrinking
    centres = (np.arange(target) + 0.5) / scale - 0.5
    reach = int(np.ceil(2 * stretch)) + 1
    taps = np.floor(centres)[:, None].astype(np.int64) + np.arange(-reach, reach + 1)[None]
    weights = _cubic((centres[:, None] - taps) / stretch)
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.mod(taps, 2 * source)
    mirrored = np.where(mirrored >= source, 2 * source - 1 - mirrored, mirrored)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target)[:, None], mirrored), weights)
    return matrix


@lru_cache(maxsize=64)
def low_pass_matrix(size: int, n: int) -> Tensor:
    """(size, size) float32 matrix M_N of the filter; the identity for n = 1.

    Raises ValueError when n does not divide size.
    """
    if n < 1 or size % n:
        raise ValueError(f"low-pass scale N = {n} must divide the face size {size}")
    if n == 1:
        return torch.eye(size)
    small = size // n
    return torch.from_numpy(resize_matrix(small, size) @ resize_matrix(size, small)).float()


def low_pass(x: Tensor, matrix: Tensor) -> Tensor:
    """Phi_N(x) for x (B, C, S, S) and ``matrix`` (S, S), or (B, S, S) for one scale per image."""
    if matrix.ndim == 3:
        matrix = matrix[:, None]
    return matrix @ x @ matrix.mT
