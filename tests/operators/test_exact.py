"""How many faces go through a network together follows from the device alone."""

from types import SimpleNamespace

import pytest
import torch

from operators.exact import SHARE, batch_for, exact


def test_one_face_at_a_time_on_a_cpu() -> None:
    assert batch_for(torch.device("cpu"), 16, 0) == 1


@pytest.mark.parametrize(
    ("room", "memory", "batch"), [(80e9, 0, 8), (80e9, 2e9, 8), (16e9, 1e9, 4), (16e9, 3e9, 1), (1e9, 3e9, 1)]
)
def test_a_batch_fits_a_part_of_a_gpu(room: float, memory: float, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=room))
    found = batch_for(torch.device("cuda"), 8, int(memory))
    assert found == batch
    assert found == 1 or found * memory <= room * SHARE


def test_a_cpu_computes_as_it_does() -> None:
    with exact(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32 is True


def test_a_gpu_keeps_all_bits_and_goes_back() -> None:
    with exact(torch.device("cuda")):
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == (False, True)
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == (True, False)
