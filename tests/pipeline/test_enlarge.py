"""Photos written larger, and faces pasted back by a mask: from the stages to what is committed and read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import state_of
from skimage.data import astronaut
from upscalers import compact, rrdb

from operators.images import ImageLimits, decode, encode_png, to_grey
from operators.parse.mask import to_png
from pipeline.blocks import from_block, to_block
from pipeline.commit import commit_unit
from pipeline.config import Config, ConfigError, build, load
from pipeline.members import CommitContext, restored_members
from pipeline.models import ModelError, describe
from pipeline.output import Output
from pipeline.product import product_of
from pipeline.records import Photo, from_table, to_table
from pipeline.resources import PoolSize
from pipeline.run import Run, RunMismatch
from pipeline.stages import Detect, Enhance, Enlarge, Restore
from pipeline.storage import Location
from pipeline.stream import part_of
from pipeline.unpacking import unpack

MakeUnit = Callable[..., list[Photo]]


def config(*settings: str, output: object = "out") -> Config:
    return load(None, settings, {"input": "in", "output": str(output)})


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compact(tmp_path_factory.mktemp("upscaler") / "tiny.pth")


def photo_of(pixels: np.ndarray, key: str = "a") -> Photo:
    return Photo("u", 0, key, f"{key}.png", encode_png(pixels))


def test_photo_and_mask_travel_in_a_block(make_unit: MakeUnit):
    photos = make_unit()
    photos[0].enlarged, photos[0].faces[0].mask = b"png", b"mask"
    again = from_table(to_table(photos))
    assert (again[0].enlarged, again[1].enlarged) == (b"png", None)
    assert [face.mask for face in again[0].faces] == [b"mask", None]


def test_a_face_is_pasted_into_the_enlarged_photo_at_its_size(make_unit: MakeUnit, context: CommitContext):
    photo = make_unit()[0]
    larger = replace(context, upscale=2)
    written = restored_members(photo, larger)
    members = dict(written.members)
    after = decode(members[f"{photo.key}.restored.png"], ImageLimits()).pixels
    assert after.shape == (200, 320, 3) and written.scale == 2
    before = np.asarray(decode(restored_members(photo, context).members[-2][1], ImageLimits()).pixels)
    assert after[90:120, 70:90].std(axis=(0, 1)).max() < 2, "the enhancer's flat face, at twice the place"
    assert np.abs(after[90:120, 70:90].mean(axis=(0, 1)) - before[45:60, 35:45].mean(axis=(0, 1))).max() < 3
    story = json.loads(members[f"{photo.key}.json"])
    assert (story["restored"]["scale"], story["restored"]["upscaler"]) == (2, "bicubic")
    assert "scale" not in json.loads(dict(restored_members(photo, context).members)[f"{photo.key}.json"])["restored"]


def test_a_photo_without_a_face_is_written_larger_too_and_unpacked(
    make_unit: MakeUnit, context: CommitContext, tmp_path: Path
):
    location = Location(str(tmp_path / "out"))
    photos = make_unit()
    commit_unit(location, photos, replace(context, upscale=2))
    output = Output(str(tmp_path / "out"))
    (record,) = output.records()
    rows = output.manifest(record).to_pylist()
    assert [row["restored_scale"] for row in rows] == [2, 2, None, None]
    assert [row["status"] for row in rows] == ["restored", "no_face", "rejected", "rejected"]
    assert output.verify() == []
    counts = unpack(output, Location(str(tmp_path / "files")))
    assert (counts.restored, counts.no_face) == (1, 1)
    assert decode((tmp_path / "files" / "0-none.png").read_bytes()).pixels.shape == (200, 320, 3)


def test_transparency_and_grey_are_enlarged_with_the_photo(make_unit: MakeUnit, context: CommitContext):
    photo = make_unit()[1]
    pixels = to_grey(decode(photo.image, ImageLimits()).pixels)
    alpha = np.arange(160, dtype=np.uint8)[None].repeat(100, axis=0)
    photo.image, photo.grey = encode_png(pixels, grey=True, alpha=alpha), True
    data = dict(restored_members(photo, replace(context, upscale=4)).members)[f"{photo.key}.restored.png"]
    larger = decode(data, ImageLimits())
    assert larger.mode == "LA" and larger.pixels.shape == (400, 640, 3)
    assert larger.alpha is not None and np.abs(larger.alpha[::4, 2::4].astype(int) - alpha).max() <= 1


def test_the_limit_of_bytes_is_for_input_alone(make_unit: MakeUnit, context: CommitContext):
    photo = make_unit()[1]
    photo.enlarged = encode_png(np.random.default_rng(0).integers(0, 256, (200, 320, 3), np.uint8))
    tight = replace(context, upscale=2, upscaler="net", limits=ImageLimits(64_000, len(photo.image)))
    assert len(photo.enlarged) > len(photo.image)
    data = dict(restored_members(photo, tight).members)[f"{photo.key}.restored.png"]
    assert np.array_equal(decode(data).pixels, decode(photo.enlarged).pixels)


def test_a_photo_that_no_stage_enlarged_is_an_error(make_unit: MakeUnit, context: CommitContext):
    with pytest.raises(ValueError, match="not enlarged; was a stage skipped"):
        restored_members(make_unit()[0], replace(context, upscale=2, upscaler="net.pth"))


def test_a_mask_keeps_the_rest_of_the_photo(make_unit: MakeUnit, context: CommitContext):
    photo = make_unit()[0]
    before = decode(photo.image, ImageLimits()).pixels
    half = np.zeros((128, 128), np.uint8)
    half[:, :64] = 255
    photo.faces[0].mask = to_png(half)
    after = decode(dict(restored_members(photo, context).members)[f"{photo.key}.restored.png"], ImageLimits()).pixels
    assert after[40:70, 25:35].std(axis=(0, 1)).max() < 2, "the left half of the face is the enhancer's"
    assert np.array_equal(after[40:70, 44:60], before[40:70, 44:60]), "the right one the photo's"


def test_a_photo_that_would_become_too_large_is_rejected_before_anything_is_done():
    settings = ("write.upscale=4", "limits.max_pixels=100000")
    small, large = photo_of(astronaut()[:60, :100], "small"), photo_of(astronaut()[:90, :100], "large")
    Detect(config(*settings), 128, "cpu", 1).work([small, large])
    assert small.status == "no_face"
    assert (large.status, large.error) == ("rejected", "write.too_large")
    assert large.message == (
        "4 times as large it would have 400 x 360 pixels, over the limit of 100,000; "
        "choose a smaller write.upscale, or raise limits.max_pixels"
    )


def test_a_photo_through_all_stages_is_written_larger_by_a_network(network: Path):
    settings = config("write.upscale=2", f"write.upscaler={network}", "restore.n=2", "restore.tau=20", "write.tile=64")
    product = product_of(settings)
    assert [(stage, pool) for stage, pool in product.stages] == [
        (Detect, "detect"), (Restore, "restore"), (Enhance, "enhance"), (Enlarge, "enhance")
    ]  # fmt: skip
    photos = [photo_of(astronaut()[::3, ::3]), photo_of(astronaut()[400:, :90], "b"), photo_of(astronaut(), "c")]
    photos[2].image = b"no picture"
    for index, photo in enumerate(photos):
        photo.index, photo.unit_size = index, 3
    block = to_block("u", photos)
    for stage, _ in product.stages:
        block = stage(settings, 128, "cpu", 1)(block)
    face, none, bad = from_block(block)
    assert (face.status, none.status, bad.status) == ("restored", "no_face", "rejected")
    assert bad.enlarged is None and "enlarge" in none.seconds
    context = CommitContext(0, {}, {}, upscale=2, upscaler="tiny.pth")
    pixels = decode(dict(restored_members(face, context).members)["a.restored.png"]).pixels
    assert face.enlarged is not None
    plain = decode(face.enlarged).pixels
    assert pixels.shape == plain.shape == (342, 342, 3)
    changed = (pixels != plain).any(axis=2)
    x0, y0, x1, y1 = (round(2 * side) for side in face.faces[0].box)
    assert changed[y0:y1, x0:x1].mean() > 0.5 and not changed[-20:].any()


def test_a_parser_masks_the_enhanced_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("facexlib")
    from operators.parse.parsenet import SIDE, FaceParser
    from pipeline.records import Face

    seen: list[tuple[int, ...]] = []

    def labels(self: FaceParser, faces: np.ndarray) -> np.ndarray:
        seen.append(faces.shape)
        return np.ones((len(faces), SIDE, SIDE), np.uint8)  # skin everywhere

    path = parsenet(tmp_path)
    monkeypatch.setattr(FaceParser, "labels", labels)
    photo = photo_of(astronaut()[:128, :128])
    crop = np.ascontiguousarray(astronaut()[:128, 160:288])
    photo.faces = [Face((0, 0, 1, 1), 1.0, np.zeros((5, 2), np.float32), crop=crop, dr2=crop) for _ in range(2)]
    photo.faces[1].dr2 = None  # kept as it came
    Enhance(config(f"write.parser={path}"), 128, "cpu", 1).work([photo])
    assert seen == [(1, 256, 256, 3)]
    assert photo.faces[0].mask is not None and photo.faces[1].mask is None


def parsenet(folder: Path) -> Path:
    from facexlib.parsing.parsenet import ParseNet

    torch.save(state_of(ParseNet(in_size=512, out_size=512, parsing_ch=19)), folder / "parsing_parsenet.pth")
    return folder / "parsing_parsenet.pth"


def test_models_that_take_part_are_recorded_and_held_to(network: Path, tmp_path: Path):
    plain, larger = describe(config()), describe(config("write.upscale=2", f"write.upscaler={network}"))
    assert "upscaler" not in plain.to_json() and "parser" not in plain.to_json()
    upscaler = larger.to_json()["upscaler"]
    assert (upscaler["name"], len(upscaler["sha256"])) == ("tiny.pth", 64)
    assert describe(config("write.upscale=2")).to_json()["upscaler"]["name"] == "bicubic"

    made = Run(config("write.upscale=2", f"write.upscaler={network}"), larger)
    assert made.commit_context().upscaler == "tiny.pth" and made.commit_context().upscale == 2
    record = {"config": made.config.result(), "models": larger.to_json()}
    made.check(record)
    moved = network.with_name("moved.pth")
    moved.write_bytes(network.read_bytes())
    settings = config("write.upscale=2", f"write.upscaler={moved}")
    Run(settings, describe(settings)).check(record)  # the same weights elsewhere
    other = config("write.upscale=2", f"write.upscaler={compact(tmp_path / 'other.pth', convolutions=1)}")
    with pytest.raises(RunMismatch, match="the upscaler is another model"):
        Run(other, describe(other)).check(record)
    with pytest.raises(RunMismatch, match=r"write.upscale was 2, is 1.*the upscaler is another model"):
        Run(config(), plain).check(record)


def test_outputs_from_before_there_were_such_settings_go_on():
    models = describe(config())
    record = {"config": config().result(), "models": models.to_json()}
    for name in ("upscale", "upscaler", "tile", "parser"):
        del record["config"]["write"][name]
    Run(config(), models).check(record)
    larger = config("write.upscale=2")
    with pytest.raises(RunMismatch, match=r"write.upscale was 1, is 2"):
        Run(larger, describe(larger)).check(record)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["write.upscale=2", "write.upscaler=gone.pth"], r"upscaler: weights not found: gone.pth"),
        (["write.upscale=4", "write.upscaler={x2}"], r"upscaler: .*x2.pth: the network enlarges 2 times"),
        (["write.parser=gone.pth"], r"parser: gone.pth is missing; check the path, or use 'none'"),
        (["write.parser={x2}"], r"parser: .*x2.pth holds a model of kind 'upscaler'; name one of kind 'parser'"),
        (
            ["write.upscale=2", "write.upscaler=https://u:p@host/x.pth?key=1"],
            r"upscaler: models are not read from URLs",
        ),
        (["detect.detector=retinaface:gone"], r"detector: RetinaFace weights not found: gone"),
        (["detect.detector={x2}"], r"detector: .*x2.pth holds a model of kind 'upscaler'; name one of kind 'detector'"),
    ],
)
def test_what_is_wrong_with_a_model_is_told_before_anything_starts(tmp_path: Path, settings: list[str], message: str):
    pytest.importorskip("facexlib")
    x2 = rrdb(tmp_path / "x2.pth", scale=2)
    with pytest.raises(ModelError, match=message) as raised:
        describe(config(*(setting.format(x2=x2) for setting in settings)))
    assert "\n" not in str(raised.value) and "key=1" not in str(raised.value)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"write.upscale"):
        config("write.upscale=3")
    with pytest.raises(ConfigError, match=r"write.tile"):
        config("write.tile=100")
    with pytest.raises(ConfigError, match=r"write.upscale: only restored photos are written larger"):
        build({"input": "in", "output": "out", "write": {"upscale": 2}, "pairs": {}})


def test_units_are_smaller_where_enlarged_photos_travel_with_them(network: Path):
    bytes_ = config().unit.max_bytes
    assert config().cut == config("write.upscale=4").cut == config().unit
    assert config("write.upscale=4", f"write.upscaler={network}").cut.max_bytes == bytes_ // 16


def test_stages_on_one_pool_share_what_it_reserves():
    assert part_of(PoolSize(3, 0.2, 0.2, 4), 2) == PoolSize(3, 0.1, 0.1, 4)
