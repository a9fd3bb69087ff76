"""The landmark network: heat maps to positions, the loss, and the close-up's geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from operators.detect.align import invert, warp
from operators.detect.landmarks import (
    CLOSE_UP,
    FACE_SIZE,
    STRIDE,
    LandmarkNetwork,
    View,
    landmark_loss,
    positions,
    upright_view,
    view_of_box,
)

CELLS = CLOSE_UP // STRIDE


def test_one_heat_map_per_landmark() -> None:
    assert LandmarkNetwork().eval()(torch.zeros(2, 3, CLOSE_UP, CLOSE_UP)).shape == (2, 5, CELLS, CELLS)


def test_position_is_the_mean_of_the_map() -> None:
    maps = torch.full((1, 5, CELLS, CELLS), -50.0)
    maps[0, :, 4, 6] = maps[0, :, 4, 7] = 0.0
    x = (6.5 + 0.5) * STRIDE - 0.5
    y = (4 + 0.5) * STRIDE - 0.5
    torch.testing.assert_close(positions(maps), torch.tensor([x, y]).expand(1, 5, 2))


def test_loss_falls_as_the_maps_approach_the_landmarks() -> None:
    wanted = torch.tensor([[[20.0, 20.0], [50.0, 20.0], [35.0, 35.0], [25.0, 50.0], [45.0, 50.0]]])
    cells = (torch.arange(CELLS) + 0.5) * STRIDE - 0.5

    def blots(shift: float) -> torch.Tensor:
        x = (cells[None, None, None, :] - wanted[..., 0, None, None] - shift) ** 2
        y = (cells[None, None, :, None] - wanted[..., 1, None, None]) ** 2
        return -(x + y) / (2 * STRIDE**2)

    near, far = landmark_loss(blots(0.0), wanted), landmark_loss(blots(6.0), wanted)
    assert near[0] < far[0]
    assert near[1]["landmark"] < 0.01
    assert far[1]["landmark"] == pytest.approx(6.0 / FACE_SIZE, rel=0.05)


def test_a_close_up_shows_the_face_in_its_middle_at_its_size() -> None:
    view = view_of_box(np.array([100, 50, 188, 138], np.float32))
    assert view.size == 88
    corners = np.array([[(CLOSE_UP - FACE_SIZE) / 2 - 0.5] * 2, [(CLOSE_UP + FACE_SIZE) / 2 - 0.5] * 2])
    np.testing.assert_allclose(view.to_photo(corners), [[100, 50], [188, 138]], atol=1e-9)


def test_warping_and_the_way_back_agree() -> None:
    photo = np.zeros((300, 300, 3), np.uint8)
    photo[118:123, 158:163] = 255  # a spot around (160, 120)
    view = View((150.0, 130.0), 60.0, 0.3)
    crop = warp(photo, invert(view.matrix), CLOSE_UP)[..., 0].astype(float)
    ys, xs = np.mgrid[:CLOSE_UP, :CLOSE_UP]
    spot = np.array([(crop * xs).sum(), (crop * ys).sum()]) / crop.sum()
    np.testing.assert_allclose(view.to_photo(spot), [160, 120], atol=0.3)


@pytest.mark.parametrize("angle", [-0.5, 0.0, 0.4])
def test_the_upright_view_turns_with_the_head(angle: float) -> None:
    view = View((80.0, 90.0), 50.0)
    upright = np.array([[-10, -10], [10, -10], [0, 0], [-8, 12], [8, 12]], float)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert upright_view(view, upright @ turn.T + 80).angle == pytest.approx(angle)


def test_absurd_landmarks_do_not_turn_the_view() -> None:
    upside_down = np.array([[-10, 10], [10, 10], [0, 0], [-8, -12], [8, -12]], float)
    assert upright_view(View((0.0, 0.0), 50.0, 0.1), upside_down).angle == 0.1
