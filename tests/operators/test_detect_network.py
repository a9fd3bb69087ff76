"""The face network: shapes, size, folding, and decoding as the inverse of what the targets ask for."""

from __future__ import annotations

import torch

from operators.detect.network import (
    BASE,
    CHANNELS_OUT,
    STRIDES,
    FaceNetwork,
    NetworkConfig,
    cell_centres,
    decode,
    folded,
)


def trained_a_little(network: FaceNetwork) -> FaceNetwork:
    """Batch statistics that are not the initial zeros and ones."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 64, 64))
    return network.eval()


def test_one_map_per_stride() -> None:
    outputs = FaceNetwork().eval()(torch.zeros(2, 3, 96, 160))
    assert [tuple(output.shape) for output in outputs] == [
        (2, CHANNELS_OUT, 96 // stride, 160 // stride) for stride in STRIDES
    ]


def test_it_is_small() -> None:
    assert sum(parameter.numel() for parameter in FaceNetwork().parameters()) < 1_000_000


def test_an_untrained_network_finds_no_face() -> None:
    for output in FaceNetwork().eval()(torch.zeros(1, 3, 64, 64)):
        assert torch.sigmoid(output[:, 0]).max() < 0.05


def test_folding_does_not_change_the_answer() -> None:
    network = trained_a_little(FaceNetwork(NetworkConfig(widths=(8, 8, 16, 16, 16), neck=16)))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for expected, output in zip(network(images), folded(network)(images), strict=True):
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


def test_folding_leaves_the_original_alone() -> None:
    network = FaceNetwork(NetworkConfig(widths=(8, 8, 16, 16, 16), neck=16)).train()
    names = set(network.state_dict())
    folded(network)
    assert set(network.state_dict()) == names
    assert network.training


def test_cell_centres_are_pixel_centres_at_integers() -> None:
    centres = cell_centres(2, 3, 8)
    assert centres.shape == (2, 3, 2)
    assert centres[0, 0].tolist() == [3.5, 3.5]
    assert centres[1, 2].tolist() == [19.5, 11.5]


def test_decode_inverts_the_encoding() -> None:
    stride, unit = 8, BASE * 8
    box = torch.tensor([5.0, 3.0, 31.0, 40.0])
    points = torch.rand(5, 2) * 40
    centre = cell_centres(2, 2, stride)[1, 0]
    raw = torch.zeros(1, CHANNELS_OUT, 2, 2)
    middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    raw[0, 0, 1, 0] = 1.5
    raw[0, 1:3, 1, 0] = (middle - centre) / unit
    raw[0, 3:5, 1, 0] = torch.log(sides / unit)
    raw[0, 5:, 1, 0] = ((points - centre) / unit).flatten()
    logits, boxes, landmarks = decode(raw, stride)
    assert logits[0, 1, 0] == 1.5
    torch.testing.assert_close(boxes[0, 1, 0], box)
    torch.testing.assert_close(landmarks[0, 1, 0], points)


def test_configuration_survives_json() -> None:
    config = NetworkConfig(widths=(8, 16, 32, 64, 96), head_blocks=1)
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in config.to_json().items()}
    assert NetworkConfig.from_json(fields) == config
