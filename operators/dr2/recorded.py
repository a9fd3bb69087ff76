"""Functions of GPU tensors, compiled and recorded.

`compiled` fuses what PyTorch would do operation by operation, and reads and writes memory once where that did so often.
`Recorded` replays the kernels of a call as one CUDA graph, so that no kernel waits for Python to launch it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

Compilable = Callable[..., Tensor]


def compiled(function: Compilable) -> Compilable:
    """`function` compiled by PyTorch for the shapes it is called with, or itself, with a warning, where that fails.

    Kernels are chosen by rule and not by timing them, which could choose others, and so another rounding, tomorrow.
    TORCHINDUCTOR_DETERMINISTIC=0 lets PyTorch time them: 2 % faster on an H200 (docs/engine.md).
    """
    if (missing := _missing()) is not None:
        _warn(missing)
        return function
    by_rule = os.environ.get("TORCHINDUCTOR_DETERMINISTIC", "1") != "0"
    fast: Compilable = torch.compile(function, dynamic=False, options={"deterministic": by_rule})

    def run(*inputs: Any) -> Tensor:
        nonlocal fast
        try:
            return fast(*inputs)
        except torch._dynamo.exc.TorchDynamoException as error:  # when it is called first
            _warn(f"{type(error).__name__}: {error}".splitlines()[0])
            fast = function
            return function(*inputs)

    return run


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values`, which lie on the CPU, on `device`, without waiting for what the device is still doing."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


class Recorded:
    """A function of GPU tensors of fixed shapes, recorded once and replayed at each call.

    A call costs one launch; its result is a tensor of its own. Calls of several threads must not overlap.
    """

    def __init__(self, function: Compilable, *examples: Tensor) -> None:
        """examples: tensors of the shapes and dtypes of all later calls; the function runs on them a few times."""
        self._inputs = [example.clone() for example in examples]
        device = examples[0].device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # diffusers' own
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # float32 was asked for
            for _ in range(2):  # compiles, and lets libraries take their workspaces, which a recording may not
                function(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._output.clone()


@cache
def _missing() -> str | None:
    """What PyTorch needs to compile for a GPU and does not find here."""
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return "TORCH_COMPILE_DISABLE is set"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not any(shutil.which(name) for name in (os.environ.get("CC", "gcc"), "clang", "cc")):
        return "there is no C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers (python3-dev) are missing"
    return None


def _warn(why: str) -> None:
    _log.warning("DR2 runs on this GPU without compiled kernels, at a fraction of its speed: %s", why)
