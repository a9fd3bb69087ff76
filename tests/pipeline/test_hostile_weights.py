"""What is often found where weights should be, and what somebody may put there on purpose, against everything that
loads weights: one line that names the file, and nothing in it is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import guided_diffusion, small_enhancer

from operators.dr2.checkpoints import load_prior
from operators.enhance import registry
from operators.training.weights import WeightsError
from pipeline.config import build
from pipeline.models import describe
from pipeline.store.errors import ModelError
from pipeline.store.install import Told, add
from pipeline.store.loading import detector_of, parser_of, remover_of, upscaler_of
from pipeline.store.places import open_store


class Canary:
    """A pickle of it makes the folder `sang` when it is loaded by who runs what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def _cut(path: Path) -> None:
    torch.save(guided_diffusion(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _code(path: Path) -> None:
    torch.save({"params_ema": {"conv.weight": torch.ones(1)}, "more": Canary(path.parent / "sang")}, path)


def _bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Canary(path.parent / "sang")))


def _zip_with_code(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(path.parent / "sang")))
        archive.writestr("archive/version", "3")


def _other_size(path: Path) -> None:
    torch.save({key: value for key, value in guided_diffusion().items() if not key.startswith("output_blocks.3")}, path)


def _other_network(path: Path) -> None:
    torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}, path)


def _numbers(path: Path) -> None:
    torch.save([1, 2, 3], path)


FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "a web page": lambda path: path.write_bytes(b"<!DOCTYPE html>\n<html><body>Sign in to continue</body></html>"),
    "a pointer of Git LFS": lambda path: path.write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 348632874\n"
    ),
    "a server's answer": lambda path: path.write_bytes(b'{"error": "Repository not found"}'),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "cut": _cut,
    "a pickle with code": _code,
    "nothing but a pickle with code": _bare_pickle,
    "an archive of a pickle with code": _zip_with_code,
    "tensors of another network": _other_network,
    "a U-Net that lacks a block": _other_size,
    "no tensors": _numbers,
}


def _as_enhancer(path: Path) -> None:
    registry.load(path)


def _as_prior(path: Path) -> None:
    load_prior(str(path))


def _as_detector(path: Path) -> None:
    detector_of(f"retinaface:{path}", "cpu")


def _as_parser(path: Path) -> None:
    pytest.importorskip("facexlib")
    parser_of(str(path), "cpu")


def _as_remover(path: Path) -> None:
    remover_of(str(path), "cpu")


def _as_upscaler(path: Path) -> None:
    pytest.importorskip("spandrel")
    upscaler_of(str(path), "cpu", 2)


def _into_a_store(path: Path) -> None:
    store = open_store(str(path.parent / "store"))
    try:
        add(store, str(path), path.parent / "copies", lambda done, total: None, Told(name="it"))
    finally:
        assert store.records() == []


def _before_a_run_as_enhancer(path: Path) -> None:
    describe(
        build({"input": "in", "output": "out", "enhance": {"enhancer": str(path)}, "restore": {"n": 4, "tau": 40}})
    )


def _before_a_run_as_prior(path: Path) -> None:
    describe(build({"input": "in", "output": "out", "restore": {"prior": str(path), "n": 4, "tau": 40}}))


BARE = (_as_enhancer, _as_prior, _as_detector, _as_parser, _as_remover, _as_upscaler)
LOADERS = (*BARE, _into_a_store, _before_a_run_as_enhancer, _before_a_run_as_prior)
CASES = [(loader, what, ".pth") for loader in LOADERS for what in FILES]
CASES.remove((_before_a_run_as_prior, "a U-Net that lacks a block", ".pth"))  # only building it tells, in a worker
CASES += [
    (loader, what, ".safetensors")
    for loader in (*BARE, _into_a_store)
    for what in ("empty", "a web page", "noise", "cut", "a pickle with code")
]


@pytest.mark.parametrize(
    ("loader", "what", "suffix"), CASES, ids=[f"{loader.__name__[1:]}-{what}{suffix}" for loader, what, suffix in CASES]
)
def test_it_is_refused_in_one_line_and_nothing_runs(
    loader: Callable[[Path], None], what: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What torch did before 2.6, and a package may still ask for.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / f"weights{suffix}"
    FILES[what](path)
    with pytest.raises((WeightsError, ModelError)) as caught:
        loader(path)
    message = str(caught.value)
    assert "\n" not in message.strip() and len(message) < 1000
    assert path.name in message
    assert not (tmp_path / "sang").exists()


def test_the_canary_sings(tmp_path: Path) -> None:
    _code(tmp_path / "weights.pth")
    torch.load(tmp_path / "weights.pth", weights_only=False)
    assert (tmp_path / "sang").is_dir()


def test_a_model_of_another_kind_is_told_by_its_kind(tmp_path: Path) -> None:
    torch.save(guided_diffusion(), tmp_path / "prior.pt")
    with pytest.raises(
        ModelError, match=r"enhancer: .*prior\.pt holds a model of kind 'prior'; name one of kind 'enhancer'"
    ):
        _before_a_run_as_enhancer(tmp_path / "prior.pt")
    with pytest.raises(ModelError, match=r"prior: .*e\.safetensors holds a model of kind 'enhancer'"):
        _before_a_run_as_prior(small_enhancer(tmp_path / "e.safetensors"))
