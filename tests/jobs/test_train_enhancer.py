import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from scipy import ndimage

from jobs.train_enhancer import command, interpolated
from jobs.train_prior import small_unet
from jobs.training.dr2_outputs import CHAINS, EQ12, TRAINING, Dr2Outputs, Recipe, make_outputs, remover
from jobs.training.enhancer_pairs import EnhancerPairs, Mix
from jobs.training.faces import halve
from operators.detect.align import template
from operators.dr2.checkpoints import load_prior, save_prior
from operators.dr2.prior import PriorSpec
from operators.dr2.schedule import Schedule
from operators.enhance import registry
from operators.enhance.adapter import from_network
from operators.enhance.builtin import save_enhancer
from operators.enhance.network import FaceEnhancer, NetworkConfig
from operators.training.weights import WeightsError

SIZE = 32


def smooth_faces(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8: smooth coloured blobs, enough structure to tell one from another."""
    noise = np.random.default_rng(0).normal(0, 1, (count, size, size, 3))
    soft = ndimage.gaussian_filter(noise, (0, size / 16, size / 16, 0), mode="reflect")
    return np.clip(128 + soft / soft.std() * 50, 0, 255).astype(np.uint8)


@pytest.fixture
def prior_file(tmp_path: Path) -> Path:
    """A prior for 32 px faces that knows nothing."""
    torch.manual_seed(0)
    spec = PriorSpec(SIZE, prediction="v_prediction", patch=2, max_timestep=700)
    path = tmp_path / "prior.safetensors"
    network = small_unet(spec, (32, 32))
    save_prior(path, network, spec, Schedule.linear(), name="tiny", licence="Apache-2.0")
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Five labelled 'portraits' of 96 px, the last of them in the held-out tenth."""
    held_out = next(f"face{i}" for i in range(100, 999) if zlib.crc32(f"face{i}".encode()) % 10 == 0)
    keys = [key for i in range(100) if zlib.crc32((key := f"face{i:02d}").encode()) % 10][:4]
    path = tmp_path / "faces.tar"
    with tarfile.open(path, "w") as tar:
        for key, face in zip([*keys, held_out], smooth_faces(5, 96), strict=True):
            image = io.BytesIO()
            Image.fromarray(face).save(image, format="PNG")
            label = json.dumps({"landmarks5": template(96).tolist()}).encode()
            for name, data in ((f"{key}.png", image.getvalue()), (f"{key}.json", label)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_job_trains_saves_measures_and_resumes(shard: Path, prior_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    same = ("--data", shard, "--out", out, "--size", SIZE, "--prior", prior_file, "--batch", 2, "--dr2-faces", 3)
    same = (*same, "--critic-weight", 0.1, "--critic-from", 1)
    first = run(*same, "--steps", 2)
    assert first.exit_code == 0, first.output
    assert "4 faces to train on, 1 held out" in first.output
    assert "| DR2, tau 200 |" in first.output
    enhancer = registry.load(out / "enhancer.safetensors")
    assert enhancer.enhance(smooth_faces(1, SIZE)).shape == (1, 2 * SIZE, 2 * SIZE, 3)
    figures = json.loads((out / "figures.json").read_text())
    assert figures["clean"]["psnr"] > 20
    with Image.open(out / "heldout.png") as sheet:
        assert sheet.size == (3 * 2 * SIZE, 2 * SIZE)

    second = run(*same, "--steps", 3, "--blend", out / "enhancer.safetensors")
    assert second.exit_code == 0, second.output
    assert "resuming at step 2 of 3" in second.output
    assert "DR2 outputs:" not in second.output  # they were kept


def test_blended_weights_lie_between_both() -> None:
    mixed = interpolated({"a": torch.tensor([0.0, 4.0])}, {"a": torch.tensor([2.0, 4.0], dtype=torch.float16)}, 0.75)
    torch.testing.assert_close(mixed, {"a": torch.tensor([1.5, 4.0])})
    with pytest.raises(WeightsError, match="another network"):
        interpolated({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, 0.5)
    with pytest.raises(ValueError, match="--blend-share"):
        interpolated({}, {}, 1.5)


def test_another_network_to_blend_with_is_refused_before_training(shard: Path, tmp_path: Path) -> None:
    config = NetworkConfig(widths=(8, 8), blocks=(1, 1), detail=4)
    path = tmp_path / "small.safetensors"
    save_enhancer(path, FaceEnhancer(config).state_dict(), config, name="a", licence="", input_size=SIZE, training={})
    result = run("--data", shard, "--out", tmp_path / "out", "--size", SIZE, "--dr2-share", 0, "--blend", path)
    assert result.exit_code == 2
    assert "--blend: another network" in result.output


def test_without_dr2_no_prior_is_needed(shard: Path, tmp_path: Path) -> None:
    result = run(
        "--data", shard, "--out", tmp_path / "out", "--size", SIZE, "--prior", tmp_path / "gone.safetensors",
        "--dr2-share", 0, "--batch", 1, "--steps", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prior", "gone.safetensors"), "not found: gone.safetensors"),
        (("--dr2-share", 1.5), "shares must lie in [0, 1]"),
        (("--size", 48, "--dr2-share", 0), "multiples of 32"),
    ],
)
def test_mistakes_end_in_one_line(shard: Path, tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    result = run("--data", shard, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_prior_of_another_size_is_refused(shard: Path, prior_file: Path, tmp_path: Path) -> None:
    result = run("--data", shard, "--out", tmp_path / "out", "--size", 64, "--prior", prior_file)
    assert result.exit_code == 2
    assert "makes 32 px faces, but --size is 64" in result.output


@pytest.mark.parametrize("recipe", [EQ12, TRAINING], ids=["Eq. 12", "training"])
def test_dr2s_outputs_depend_on_the_face_alone(prior_file: Path, recipe: Recipe) -> None:
    sharp, keys = smooth_faces(6, 2 * SIZE), list("abcdef")
    remove = remover(load_prior(str(prior_file)), recipe, seed=0)
    together = remove(sharp, keys)
    assert set(together.rows) == set(range(6))
    for row, key in enumerate(keys):
        alone, of_face = remove(sharp[row : row + 1], [key]), together.rows == row
        assert list(alone.tau) == list(together.tau[of_face])
        assert np.abs(alone.images.astype(int) - together.images[of_face]).max() <= 1
    assert np.abs(remove(sharp[:1], ["a"]).images[0].astype(int) - remove(sharp[:1], ["z"]).images[0]).max() > 1


def test_a_recipe_says_what_went_in(prior_file: Path) -> None:
    prior, sharp, keys = load_prior(str(prior_file)), smooth_faces(8, 2 * SIZE), list("abcdefgh")
    eq12 = remover(prior, EQ12, seed=0)(sharp, keys)
    assert (set(eq12.tau), set(eq12.n), any(eq12.degraded)) == ({50, 100, 150, 200}, {4}, False)
    mixed = remover(prior, TRAINING, seed=0)(sharp, keys)
    assert {chain.n for chain, _ in CHAINS} >= set(mixed.n[mixed.degraded])
    assert any(mixed.degraded)


def test_dr2_outputs_survive_an_interruption(tmp_path: Path) -> None:
    sharp, keys, calls = smooth_faces(5, 32), list("abcde"), []

    def remove(batch: np.ndarray, names: Sequence[str]) -> Dr2Outputs:
        if len(calls) == 1:
            calls.append("interrupted")
            raise KeyboardInterrupt
        calls.append("".join(names))
        rows = np.arange(len(batch))
        return Dr2Outputs(rows, halve(batch), rows * 0 + 4, rows * 0 + 50, rows > 0)

    def make(keys: Sequence[str] = keys) -> Dr2Outputs:
        return make_outputs(tmp_path, keys, sharp, remove, count=4, seed=0, chunk=2, say=lambda line: None)

    with pytest.raises(KeyboardInterrupt):
        make()
    outputs = make()
    assert len(calls) == 3  # the first two faces were not run again
    np.testing.assert_array_equal(outputs.images, halve(sharp)[outputs.rows])
    np.testing.assert_array_equal(make().images, outputs.images)
    assert len(calls) == 3
    with pytest.raises(ValueError, match=r"0000.npz holds DR2 outputs of other faces"):
        make(keys=list("vwxyz"))


def pairs(mix: Mix) -> EnhancerPairs:
    sharp = smooth_faces(4, 2 * SIZE)
    outputs = Dr2Outputs(np.array([2]), 255 - halve(sharp)[2:3], np.array([4]), np.array([50]), np.array([False]))
    return EnhancerPairs(sharp, outputs, mix)


def test_pairs_follow_from_the_generator() -> None:
    first, again, other = (pairs(Mix()).draw(6, np.random.default_rng(seed)) for seed in (3, 3, 4))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first[0], other[0])


def test_input_and_target_show_the_same_face() -> None:
    """Whatever flips, tones and blurs: the halved target is close to the input."""
    inputs, targets = pairs(Mix(dr2=0, grey=0.5)).draw(64, np.random.default_rng(0))
    halved = torch.nn.functional.avg_pool2d(targets, 2)
    error = (halved - inputs).abs().mean(dim=(1, 2, 3))
    others = (halved.roll(1, 0) - inputs).abs().mean(dim=(1, 2, 3))
    assert error.quantile(0.5) < 0.1  # light noise or a blur is all that differs, but for Eq. 13's
    assert error.max() < 0.5
    assert others.median() > 0.2


def test_a_dr2_pair_takes_dr2s_output_and_its_own_face() -> None:
    inputs, targets = pairs(Mix(dr2=1, grey=1)).draw(1, np.random.default_rng(0))
    halved = torch.nn.functional.avg_pool2d(targets, 2)
    # The stand-in for DR2 returned the negative of its face.
    assert np.corrcoef(inputs.numpy().ravel(), halved.numpy().ravel())[0, 1] < -0.9


def test_grey_faces_are_grey_or_toned_alike() -> None:
    inputs, targets = pairs(Mix(dr2=0, grey=1)).draw(32, np.random.default_rng(0))
    spread = (from_network(inputs).max(-1).astype(int) - from_network(inputs).min(-1)).max(axis=(1, 2))
    assert (spread <= 1).sum() > 8
    for face, target in zip(inputs, targets, strict=True):
        tint = face.mean(dim=(1, 2)) - face.mean()
        torch.testing.assert_close(tint, target.mean(dim=(1, 2)) - target.mean(), rtol=0, atol=0.02)


def test_no_pair_goes_through_dr2_before_its_time() -> None:
    early = pairs(Mix(dr2=1)).draw(4, np.random.default_rng(0), dr2=False)
    without = pairs(Mix(dr2=0)).draw(4, np.random.default_rng(0))
    torch.testing.assert_close(early, without, rtol=0, atol=0)


def test_a_share_of_dr2_pairs_needs_dr2_outputs() -> None:
    with pytest.raises(ValueError, match="needs DR2 outputs"):
        EnhancerPairs(smooth_faces(1, 2 * SIZE), Dr2Outputs.none(SIZE), Mix(dr2=0.5))
