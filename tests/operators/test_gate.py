"""The gate of the pairs' targets: what it measures follows the face, and each limit refuses for its own reason."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut

from operators.detect.align import template
from operators.pairs.gate import Gate, Target, sharpness, turn

FRONTAL = template(128).astype(np.float32)
IMAGE = astronaut()[:128, 150:278]


def target(image: np.ndarray = IMAGE, landmarks: np.ndarray = FRONTAL, niqe: float | None = 4.0) -> Target:
    return Target(image, landmarks, enlargement=1.1, niqe=niqe)


def test_blur_takes_sharpness_away() -> None:
    found = [sharpness(gaussian_filter(IMAGE, (sigma, sigma, 0))) for sigma in (0, 1, 2, 4)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 4 * found[2]
    assert sharpness(np.full((32, 32, 3), 7, np.uint8)) == 0


def test_a_turned_head_is_told_however_the_photo_lies() -> None:
    assert turn(FRONTAL) < 0.05
    aside = FRONTAL.copy()
    aside[2, 0] += 0.4 * (FRONTAL[1, 0] - FRONTAL[0, 0])
    assert turn(aside) == pytest.approx(0.4, abs=0.05)
    angle = 0.7
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    assert turn(3 * aside @ rotation.T) == pytest.approx(turn(aside), abs=1e-4)
    assert turn(np.zeros((5, 2), np.float32)) == float("inf")


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (Gate(enlargement=1.0), "gate.small"),
        (Gate(turn=0.001), "gate.turned"),
        (Gate(sharpness=1e9), "gate.blurred"),
        (Gate(niqe=3.9), "gate.niqe"),
    ],
)
def test_each_limit_refuses_for_its_reason(gate: Gate, code: str) -> None:
    refusal = gate.refusal(target())
    assert refusal is not None and refusal[0] == code


def test_what_is_not_limited_is_let_through() -> None:
    assert Gate(enlargement=None).refusal(target()) is None
    assert Gate(enlargement=1.2, niqe=4.1, sharpness=1, turn=0.2).refusal(target()) is None
    assert Gate(niqe=3).refusal(target(niqe=None)) is None
    assert Gate(niqe=3).refusal(target(niqe=float("inf"))) == ("gate.niqe", "its NIQE is inf, over 3")
