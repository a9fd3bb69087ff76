"""The parts of an evaluation: which photos, which truths, which numbers, and how they are kept."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from operators.images import encode_png
from operators.quality.metrics.names import METRICS
from operators.training.split import held_out
from pipeline.config import ConfigError, load
from pipeline.config import Unit as UnitLimits
from pipeline.evaluation.degrade import Degrade
from pipeline.evaluation.faces import at_size, degraded
from pipeline.evaluation.measure import versions
from pipeline.evaluation.results import METHODS, FaceResult, PhotoResult, Version, from_parquet, to_parquet, values
from pipeline.evaluation.sample import choose, rank
from pipeline.evaluation.settings import (
    SETTINGS,
    EvaluationConfig,
    Setting,
    evaluate_section,
    settings_named,
)
from pipeline.evaluation.sheets import ROWS, sheets
from pipeline.evaluation.statistics import mean, rows
from pipeline.evaluation.table import document, markdown
from pipeline.inputs import InputError, resolve_inputs
from pipeline.labels import LabelError, labelled_landmarks
from pipeline.records import Face, Photo
from pipeline.tar import write_shard

PSNR, NIQE = (next(metric for metric in METRICS if metric.name == name) for name in ("psnr", "niqe"))
SEVERE = Setting("severe", 16)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (128, 128, 3), np.uint8)


def test_a_face_is_degraded_by_seed_key_and_setting_alone(truth):
    once = degraded(truth, SEVERE, seed=0, key="a", grey=False)
    assert np.array_equal(once, degraded(truth, SEVERE, seed=0, key="a", grey=False))
    assert once.shape == truth.shape
    for other in (
        degraded(truth, SEVERE, seed=1, key="a", grey=False),
        degraded(truth, SEVERE, seed=0, key="b", grey=False),
        degraded(truth, Setting("severe", 8), seed=0, key="a", grey=False),
    ):
        assert not np.array_equal(once, other)


def test_grey_stays_grey(truth):
    grey = degraded(np.repeat(truth[..., :1], 3, axis=-1), SEVERE, seed=0, key="a", grey=True)
    assert (grey == grey[..., :1]).all()


def test_labels_are_read_and_broken_ones_named():
    points = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert (
        labelled_landmarks([("a.txt", b"x"), ("a.json", json.dumps({"landmarks5": points}).encode())]).tolist()
        == points
    )
    assert labelled_landmarks([("a.json", b'{"width": 3}')]) is None
    assert labelled_landmarks([]) is None
    for broken in (b"{", b"[1]", b'{"landmarks5": [1, 2]}', b'{"landmarks5": "eyes"}'):
        with pytest.raises(LabelError, match=r"^a\.json: landmarks5 must be"):
            labelled_landmarks([("a.json", broken)])


def test_settings_keep_the_order_of_the_paper():
    assert len(settings_named(None)) == 9
    assert settings_named("severe-8, mild-4") == (SETTINGS[0], Setting("severe", 8))
    with pytest.raises(ConfigError, match="terrible-4 is none of mild-4"):
        settings_named("severe-8,terrible-4")
    with pytest.raises(ConfigError, match=r"^--size: .*176, not 100"):
        evaluate_section(size=100)


@pytest.fixture
def shards(tmp_path: Path) -> list:
    for number in range(2):
        write_shard(tmp_path / f"s{number}.tar", [(f"k{number}{i:02d}.jpg", b"x" * i) for i in range(30)])
    return resolve_inputs(str(tmp_path))


def test_the_sample_is_the_first_by_hash_and_says_what_it_is(shards):
    limits = UnitLimits(max_samples=4)
    everything = choose(shards, {}, limits)
    assert sum(len(unit.samples) for unit in everything.units) == 60
    assert len(everything.units) == 2 * 8
    keys = [sample.key for unit in everything.units for sample in unit.samples]
    few = choose(shards, {}, limits, most=5)
    chosen = [sample.key for unit in few.units for sample in unit.samples]
    assert sorted(chosen, key=rank) == sorted(keys, key=rank)[:5]
    assert [name.rpartition("/")[2] for name in few.shown] == sorted(chosen, key=rank)
    unseen = choose(shards, {}, limits, only_held_out=True)
    assert [s.key for unit in unseen.units for s in unit.samples] == [key for key in keys if held_out(key)]
    assert len({sample.fingerprint for sample in (everything, few, unseen)}) == 3
    assert choose(list(reversed(shards)), {}, limits, most=5).shown == few.shown


def test_a_sample_of_nothing_is_an_error(tmp_path: Path):
    key = next(f"k{i}" for i in range(99) if not held_out(f"k{i}"))
    write_shard(tmp_path / "s.tar", [(f"{key}.jpg", b"x")])
    with pytest.raises(InputError, match="no photo of the input is held out"):
        choose(resolve_inputs(str(tmp_path)), {}, UnitLimits(), only_held_out=True)


def test_the_first_stage_makes_a_face_per_setting_or_says_why_not(tmp_path: Path):
    config = EvaluationConfig.of(
        load(None, [], {"input": "in", "output": "out"}), evaluate_section(size=176, settings=("mild-4", "severe-16"))
    )
    stage = Degrade(config, 128, "cpu", 1)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)

    def photo(scale: float, image: bytes) -> Photo:
        points = np.array([(113, 141), (187, 141), (150, 184), (118, 218), (183, 218)]) * scale
        return Photo("u", 0, "k", "k.png", image, [("k.json", json.dumps({"landmarks5": points.tolist()}).encode())])

    photos = [photo(1, encode_png(pixels)), photo(0.3, encode_png(pixels)), photo(1, b"no picture")]
    photos += [photo(0, encode_png(pixels)), Photo("u", 0, "k", "k.png", encode_png(pixels[:64, :64] // 64 * 0))]
    stage.process(photos)
    assert [face.crop.shape for face in photos[0].faces] == [(128, 128, 3)] * 2
    mild, severe = (face.crop.astype(float).std() for face in photos[0].faces)
    assert mild != severe
    assert [photo.error for photo in photos] == [
        "",
        "face.too_small",
        "image.unreadable",
        "face.degenerate",
        "face.none",
    ]


def test_a_kept_face_counts_as_it_came(truth):
    small = at_size(truth, 64)
    face = Face((0, 0, 1, 1), 1.0, np.zeros((5, 2), np.float32), crop=small, dr2=small, image=small, status="kept")
    assert all(image is truth for image in versions(face, truth))
    face.status = "restored"
    came, dr2, final = versions(face, truth)
    assert came is truth
    assert dr2.shape == final.shape == truth.shape
    assert not np.array_equal(dr2, truth)


def photo_result(key: str, psnr: tuple[float, float, float], niqe: float | None = 4.0, status: str = "restored"):
    found = tuple(Version(method, {"psnr": value, "niqe": niqe}) for method, value in zip(METHODS, psnr, strict=True))
    strip = io.BytesIO()
    Image.new("RGB", (4 * 32, 32), (200, 100, 50)).save(strip, format="JPEG")
    face = FaceResult("severe-16", status, "why", 4, 280, 20, found, strip=strip.getvalue())
    return PhotoResult("s.tar", key, "measured", faces=(face,), seconds={"restore": 1.5})


def test_results_come_back_from_parquet_as_they_were():
    features = np.arange(4, dtype=np.float32)
    version = Version("input", values({"psnr": 20.5, "niqe": float("inf")}), features)
    face = FaceResult("mild-4", "kept", "natural already", None, None, 0, (version,))
    photos = [
        PhotoResult("s.tar", "a", "measured", truth=features, faces=(face,), seconds={"restore": 1.5}),
        PhotoResult("s.tar", "b", "left_out", "face.none", "no face"),
    ]
    first, second = from_parquet(to_parquet(photos))
    assert second == photos[1]
    assert first.faces[0].versions[0].values == {"psnr": 20.5, "niqe": None}
    assert np.array_equal(first.truth, features)
    assert np.array_equal(first.faces[0].versions[0].features, features)
    assert (first.faces[0].status, first.faces[0].n, first.seconds) == ("kept", None, {"restore": 1.5})


def test_means_have_students_interval_and_skip_what_cannot_be_measured():
    found = mean([1.0, 2.0, None, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half_width == pytest.approx(4.302652729911275 / 3**0.5)  # t of 2 degrees of freedom at 97.5 %
    assert (mean([5.0]).half_width, mean([]).mean) == (None, None)


def test_rows_compare_the_same_faces_whatever_their_order():
    photos = [
        photo_result("a", (20.0, 21.0, 23.0)),
        photo_result("b", (22.0, 22.0, 22.0), niqe=None, status="kept"),
        PhotoResult("s.tar", "c", "left_out", "face.none", "no face"),
    ]
    (row,) = rows(photos, [SEVERE], [PSNR, NIQE])
    assert rows(reversed(photos), [SEVERE], [PSNR, NIQE]) == [row]
    assert (row.faces, row.kept, row.evaluations, row.choices) == (2, 0.5, 20, {"N 4, tau 280": 1})
    psnr, niqe = row.comparisons
    assert [psnr.methods[method].mean for method in METHODS] == [21.0, 21.5, 22.5]
    assert psnr.difference.mean == 1.5
    assert psnr.gained is True
    assert (niqe.methods["input"].n, niqe.difference.mean, niqe.gained) == (1, 0.0, None)


def test_the_page_shows_the_better_of_input_and_result():
    better, worse = photo_result("a", (20.0, 21.0, 23.0)), photo_result("b", (25.0, 21.0, 23.0))
    left_out = PhotoResult("s.tar", "c", "left_out", "image.truncated", "its end is missing")
    for photo, cell, gain in (
        (better, "20.00 → 21.00 → **23.00**", "| **+3.00** |"),
        (worse, "**25.00** → 21.00 → 23.00", "| -2.00 |"),
    ):
        photos = [photo, left_out]
        found = rows(photos, [SEVERE], [PSNR])
        page = markdown(found, photos, [METRICS[-1]], size=256, made_with="Made with care.")
        assert f"| severe | 16 | 1 | 0% | 20.0 | {cell} |" in page
        assert gain in page
        assert "Made with care." in page
        assert "Photos: 2, of which 1 were measured." in page
        assert "1 × image.truncated" in page
        assert "ArcFace (recognition_arcface_ir_se50.pth)" in page
        told = document(found, photos, [METRICS[-1]])
        assert told["rows"][0]["metrics"]["psnr"]["dr2"] == {"mean": 21.0, "half_width": None, "n": 1}
        assert told["seconds"] == {"restore": 1.5}
        assert told["left_out"][0]["message"] == "its end is missing"


def test_fid_compares_all_faces_with_all_truths():
    fid = next(metric for metric in METRICS if metric.name == "fid")
    rng = np.random.default_rng(0)
    photos = []
    for number in range(3):
        truth = rng.normal(size=8).astype(np.float32)
        shifts = {"input": 2.0, "dr2": 1.0, "dr2+enhancer": 0.0}
        found = tuple(Version(method, {}, truth + shift) for method, shift in shifts.items())
        face = FaceResult("severe-16", "restored", "", 4, 280, 20, found)
        photos.append(PhotoResult("s.tar", str(number), "measured", truth=truth, faces=(face,)))
    (comparison,) = rows(photos, [SEVERE], [fid])[0].comparisons
    assert [comparison.methods[method].mean for method in METHODS] == pytest.approx([32, 8, 0], abs=1e-4)
    assert comparison.gained is True
    (alone,) = rows(photos[:1], [SEVERE], [fid])[0].comparisons
    assert alone.methods["input"].mean is None


def test_a_sheet_shows_the_first_faces_by_hash_and_no_more_than_its_rows():
    photos = [photo_result(f"k{i}", (20.0, 21.0, 23.0)) for i in range(ROWS + 3)]
    shown = [f"s.tar/{photo.key}" for photo in photos]
    ((setting, png),) = sheets(photos, [SEVERE], shown)
    assert setting == SEVERE
    with Image.open(io.BytesIO(png)) as sheet:
        assert sheet.width == 4 * 32
        assert ROWS * 32 < sheet.height < (ROWS + 1) * (32 + 16)
    assert list(sheets(photos, [SEVERE], [])) == []
    ((_, same),) = sheets(reversed(photos), [SEVERE], shown)
    assert same == png
