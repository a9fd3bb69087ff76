"""The parser's masks: ParseNet in its published layout, and what becomes of its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from published import state_of

from operators.parse.mask import from_png, to_png
from operators.parse.parsenet import CLASSES, MASK_SIDE, SIDE, FaceParser, soft_mask
from operators.training.weights import WeightsError

pytest.importorskip("facexlib")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from facexlib.parsing.parsenet import ParseNet

    path = tmp_path_factory.mktemp("parser") / "parsing_parsenet.pth"
    torch.save(state_of(ParseNet(in_size=512, out_size=512, parsing_ch=19)), path)
    return path


def facexlibs(weights: Path) -> torch.nn.Module:
    from facexlib.parsing.parsenet import ParseNet

    network = ParseNet(in_size=512, out_size=512, parsing_ch=19)
    network.load_state_dict(torch.load(weights))
    return network.eval()


def test_the_published_layout_is_loaded_as_facexlib_loads_it(weights: Path):
    parser = FaceParser.load(weights)
    seen = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        ours, theirs = parser.network(seen)[0], facexlibs(weights)(seen)[0]
    assert ours.shape == (1, 19, 64, 64) and float(ours.std()) > 0.1
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.std())
    assert len(parser.fingerprint) == 64


@pytest.mark.slow
def test_a_face_of_full_size_has_the_labels_that_facexlib_gives_it(weights: Path):
    face = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    parser = FaceParser.load(weights)
    with torch.inference_mode():
        scores = facexlibs(weights)((torch.from_numpy(face).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5)[0]
    labels = parser.labels(face)
    assert len(np.unique(labels)) > 3, "the network says several things"
    assert (labels == scores.argmax(dim=1).numpy()).mean() > 0.999


def labelled() -> NDArray[np.uint8]:
    """A face of skin with a mouth under hair, a hat above it and clothes below it, by name."""
    labels = np.zeros((SIDE, SIDE), np.uint8)

    def paint(name: str, top: int, bottom: int, left: int, right: int) -> None:
        labels[top:bottom, left:right] = CLASSES.index(name)

    paint("hat", 0, 90, 120, 400)
    paint("hair", 90, 170, 120, 400)
    paint("skin", 170, 420, 150, 370)
    paint("mouth", 350, 380, 210, 310)
    paint("neck", 420, 470, 190, 330)
    paint("clothes", 470, SIDE, 60, 460)
    return labels


def test_face_and_hair_are_pasted_and_the_rest_is_left():
    mask = soft_mask(labelled())
    assert mask is not None

    def at(y: int, x: int) -> int:
        return int(mask[y // 4, x // 4])

    assert at(300, 260) == at(365, 260) == 255 and at(130, 260) > 240
    assert at(20, 260) == at(500, 260) == at(300, 30) == 0
    assert 100 < at(170, 135) < 240 and at(460, 260) < 20


def test_edges_are_as_soft_as_two_blurs_of_11_pixels():
    """A straight edge blurred twice by sigma 11 is the normal distribution of sigma 11 sqrt 2."""
    from scipy.stats import norm

    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[:, :256] = CLASSES.index("skin")
    mask = soft_mask(labels)
    assert mask is not None
    middles = 4 * np.arange(MASK_SIDE) + 1.5
    expected = norm.sf((middles - 255.5) / (11 * 2**0.5))
    assert np.abs(mask[64] / 255 - expected).max() < 0.01


def test_where_no_face_is_found_there_is_no_mask():
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[:100, :100] = CLASSES.index("hair")
    assert soft_mask(labels) is None


def test_a_mask_travels_as_it_is():
    mask = soft_mask(labelled())
    assert mask is not None
    data = to_png(mask)
    assert len(data) < 10_000
    assert np.array_equal((from_png(data) * 255).round().astype(np.uint8), mask)


def test_other_weights_are_told_in_one_line(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"not found: .*gone\.pth"):
        FaceParser.load(tmp_path / "gone.pth")
    torch.save({"encoder.0.conv2d.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"part\.pth holds other weights than parsing_parsenet\.pth: ") as raised:
        FaceParser.load(tmp_path / "part.pth")
    assert "\n" not in str(raised.value)
