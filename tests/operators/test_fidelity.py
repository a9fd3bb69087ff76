import numpy as np
import pytest
import torch
from scipy import ndimage

from operators.quality.fidelity import fidelity


def face_like(seed: int, size: int = 128) -> np.ndarray:
    """(size, size, 3) in [0, 1], coarse blobs of a face's scale."""
    blobs = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), size / 16)
    return np.repeat(np.clip(0.5 + 0.2 * blobs / blobs.std(), 0, 1)[..., None], 3, axis=-1)


def tensor(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def test_identical_faces_have_fidelity_one() -> None:
    face = tensor(face_like(0))
    assert fidelity(face, face) == pytest.approx([1.0])


def test_removed_noise_costs_little_and_another_person_costs_all() -> None:
    face, other = face_like(0), face_like(1)
    noisy = face + np.random.default_rng(2).normal(0, 0.12, face.shape)
    denoised, swapped = fidelity(tensor(face, other), tensor(noisy, noisy))
    assert denoised > 0.9
    assert swapped < 0.3


def test_fidelity_falls_as_structure_moves() -> None:
    face = face_like(0)
    moved = [np.roll(face, shift, axis=1) for shift in (0, 2, 4, 8)]
    scores = fidelity(tensor(*moved), tensor(*[face] * 4))
    assert (np.diff(scores) < 0).all()


def test_same_share_of_the_face_costs_the_same_at_every_size() -> None:
    small, large = face_like(0, 64), np.kron(face_like(0, 64), np.ones((4, 4, 1)))
    scores = [fidelity(tensor(np.roll(face, face.shape[0] // 16, axis=1)), tensor(face))[0] for face in (small, large)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


def test_broken_candidate_has_the_lowest_fidelity_and_spares_its_neighbours() -> None:
    face = tensor(face_like(0), face_like(0))
    broken = face.clone()
    broken[0, 0, 0, 0] = torch.nan
    assert fidelity(broken, face) == pytest.approx([-1.0, 1.0])


def test_constant_faces_have_a_fidelity() -> None:
    black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    assert np.isfinite(fidelity(black, white)).all()
    assert fidelity(black, black) == pytest.approx([1.0])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        fidelity(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, 32))
