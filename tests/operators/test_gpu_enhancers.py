"""Published enhancers on a GPU: the faces of the CPU, to rounding, and the same bytes whatever is beside them.

pytest -m gpu tests/operators/test_gpu_enhancers.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import ENHANCERS
from published import faces

from operators.enhance import registry

pytest.importorskip("spandrel_extra_arches")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.mark.parametrize("name", ENHANCERS)
def test_a_gpu_makes_the_faces_of_the_cpu(name: str, tmp_path: Path) -> None:
    path = ENHANCERS[name](tmp_path)
    cpu, gpu = registry.load(path), registry.load(path, "cuda")
    batch = faces(3, cpu.input_size)
    made = gpu.enhance(batch)
    assert np.abs(made.astype(int) - cpu.enhance(batch)).max() <= 2
    np.testing.assert_array_equal(np.concatenate([gpu.enhance(face[None]) for face in batch]), made)
