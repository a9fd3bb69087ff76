"""RetinaFace in facexlib's two layouts: the same faces as facexlib's own, whatever photos are beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from published import state_of
from torch import Tensor, nn

from operators.detect import retinaface
from operators.detect.contract import Detection
from operators.detect.retinaface import (
    LONGEST_SIDE,
    MOBILENET,
    RESNET,
    SCORE,
    RetinaFaceDetector,
    anchors,
    source_of,
    weights_in,
)
from operators.training.weights import WeightsError

pytest.importorskip("facexlib")

KINDS = {MOBILENET: "mobile0.25", RESNET: "resnet50"}


def facexlibs(kind: str) -> Any:
    """facexlib's network with seeded weights, that finds some hundred small faces in noise."""
    from facexlib.detection.retinaface import RetinaFace

    network = RetinaFace(network_name=kind, phase="train", device="cpu").eval()  # answers before the softmax
    state_of(network)
    with torch.no_grad():
        said = network(torch.from_numpy(noise(64, 64)).permute(2, 0, 1)[None].float() - 110)
        for heads, answer, spread in zip(
            (network.BboxHead, network.ClassHead, network.LandmarkHead), said, (0.5, 1.0, 0.5), strict=True
        ):
            for head in heads:
                head.conv1x1.weight *= spread / answer.std()
    network.phase = "test"
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retinaface")
    for name, kind in KINDS.items():
        # As a network that was trained in parallel is saved: facexlib takes this away, and so do we.
        torch.save({f"module.{key}": value for key, value in facexlibs(kind).state_dict().items()}, path / name)
    return path


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def same(ours: list[Detection], theirs: list[Detection]) -> bool:
    return len(ours) == len(theirs) and all(
        one.box == other.box and one.score == other.score and np.array_equal(one.landmarks, other.landmarks)
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", list(KINDS))
def test_the_faces_are_those_that_facexlib_finds(folder: Path, name: str) -> None:
    """On a photo whose sides need no padding."""
    photo = noise(128, 192)
    (ours,) = RetinaFaceDetector.load(folder / name).detect([photo])
    with torch.inference_mode():
        rows = facexlibs(KINDS[name]).detect_faces(np.ascontiguousarray(photo[:, :, ::-1]), conf_threshold=SCORE)
    rows = [row for row in rows if (row[:2] < [192, 128]).all() and (row[2:4] > 0).all()]
    assert len(ours) == len(rows) > 3
    # Scores of noise are nearly alike, so faces are told apart by where their landmarks are.
    places = np.stack([face.landmarks.ravel() for face in ours])
    nearest = [int(np.abs(places - row[5:]).max(axis=1).argmin()) for row in rows]
    assert sorted(nearest) == list(range(len(ours)))
    for face, row in zip((ours[place] for place in nearest), rows, strict=True):
        assert face.score == pytest.approx(row[4], abs=1e-5)
        assert face.box == pytest.approx(np.clip(row[:4], 0, [192, 128, 192, 128]), abs=0.01)
        assert face.landmarks.ravel() == pytest.approx(row[5:], abs=0.01)


def test_photos_of_one_size_go_through_together_and_each_as_if_alone(folder: Path) -> None:
    """The batching of a GPU, here on a CPU: photos of two padded sizes, more than one batch of the first."""
    detector = RetinaFaceDetector.load(folder / MOBILENET)
    photos = [noise(100 + seed, 120, seed) for seed in range(5)] + [noise(60, 60, 9)]
    shapes: list[tuple[int, ...]] = []
    network = detector.network

    class Watched(nn.Module):
        def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
            shapes.append(tuple(batch.shape))
            return network(batch)

    detector.network, detector.together = Watched(), 4
    together = detector.detect(photos)
    assert shapes == [(4, 3, 128, 128)] * 2 + [(4, 3, 64, 64)], "batches of one shape, filled up"
    assert sum(map(len, together)) > 5
    for photo, found in zip(photos, together, strict=True):
        assert same(found, detector.detect([photo])[0])
    assert all(map(same, together[::-1], detector.detect(photos[::-1])))


def test_large_photos_take_smaller_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retinaface, "PIXELS", 2 * 128 * 128)
    detector = RetinaFaceDetector.load(folder / MOBILENET)
    sizes: list[int] = []
    detector.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    detector.together = 8
    detector.detect([noise(128, 128, seed) for seed in range(3)] + [noise(300, 300)])
    assert sizes == [2, 2, 1]


def test_anchors_are_those_of_facexlib() -> None:
    from facexlib.detection.retinaface import generate_config
    from facexlib.detection.retinaface_utils import PriorBox

    height, width = 128, 192
    theirs = PriorBox(generate_config("resnet50"), image_size=(height, width)).forward()
    assert torch.allclose(anchors(height, width), theirs * torch.tensor([width, height, width, height]), atol=1e-4)


class Says(nn.Module):
    """Stands in for a network: sees one face at the first anchor of the coarsest level, and remembers its input."""

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.seen = batch
        count = len(anchors(*batch.shape[2:]))
        offsets, points = torch.zeros(len(batch), count, 4), torch.zeros(len(batch), count, 10)
        scores = torch.zeros(len(batch), count, 2)
        scores[:, -2 * (batch.shape[2] // 32) * (batch.shape[3] // 32), 1] = 0.9
        return offsets, scores, points


def test_the_network_sees_blue_first_less_its_mean() -> None:
    network = Says()
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[..., 0] = 255
    RetinaFaceDetector(network, "").detect([photo])
    assert network.seen[0, :, 5, 5].tolist() == [-104, -117, 255 - 123]


def test_a_large_photo_is_shrunken_and_boxes_come_back_in_its_pixels() -> None:
    network = Says()
    (found,) = RetinaFaceDetector(network, "").detect([np.zeros((200, 2 * LONGEST_SIDE, 3), np.uint8)])
    assert network.seen.shape[2:] == (128, 2176)
    # The anchor is a square of 256 about (16, 16); the photo is 200 high.
    assert found[0].box == pytest.approx((0, 0, 2 * (16 + 128) + 0.5, 200))
    assert found[0].landmarks[0] == pytest.approx([32.5, 32.5])


def test_what_lies_in_the_padding_alone_is_no_face() -> None:
    network = Says()
    detector = RetinaFaceDetector(network, "")
    assert len(detector.detect([np.zeros((64, 64, 3), np.uint8)])[0]) == 1

    class Beyond(Says):
        def forward(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            offsets, scores, points = super().forward(batch)
            offsets[..., :2], offsets[..., 2:] = 2.0, -20.0  # to the right, below, and small
            return offsets, scores, points

    assert RetinaFaceDetector(Beyond(), "").detect([np.zeros((40, 40, 3), np.uint8)]) == [[]]


def test_a_folder_or_a_file_names_the_weights(folder: Path, tmp_path: Path) -> None:
    assert weights_in(folder) == folder / RESNET
    assert weights_in(folder / MOBILENET) == folder / MOBILENET
    assert source_of(f"retinaface:{folder}") == str(folder)
    assert source_of("models/detection_mobilenet0.25_Final.pth") == "models/detection_mobilenet0.25_Final.pth"
    assert source_of("builtin") is source_of("mine.safetensors") is None


def test_missing_weights_name_the_files_and_never_download(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"{tmp_path}; put facexlib's {RESNET} or {MOBILENET} there"):
        RetinaFaceDetector.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / RESNET).write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=RESNET):
        RetinaFaceDetector.load(tmp_path)
    torch.save({"x.weight": torch.zeros(3)}, tmp_path / RESNET)
    with pytest.raises(WeightsError, match=f"{RESNET} holds no RetinaFace of facexlib"):
        RetinaFaceDetector.load(tmp_path)
    torch.save({"body.conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / RESNET)
    with pytest.raises(WeightsError, match=f"{RESNET} is not the RetinaFace of facexlib: ") as raised:
        RetinaFaceDetector.load(tmp_path)
    assert "\n" not in str(raised.value)


class Harm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_weights_that_are_a_pickle_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"weights": Harm(tmp_path / "harm")}, tmp_path / RESNET)
    # What torch did before 2.6 where its caller left the choice to it.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(WeightsError, match=RESNET):
        RetinaFaceDetector.load(tmp_path)
    assert not (tmp_path / "harm").exists()
