"""`dr2e restore` from end to end with every stage real: Ray, the built-in models, shards in and out."""

from __future__ import annotations

import io
import json
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.api import Summary, restore
from pipeline.config import load
from pipeline.output import Output
from pipeline.storage import Location
from pipeline.tar import write_shard

DR2E = [sys.executable, "-c", "from jobs.cli import main; main()"]

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; Ray starts slowly on a busy one


def run(inputs: object, output: object, settings: list[str], **overrides: object) -> Summary:
    config = load(None, settings, {"input": str(inputs), "output": str(output), **overrides})
    return restore(config, progress=io.StringIO())


def arguments(inputs: object, output: object, settings: list[str]) -> list[str]:
    return ["restore", "--input", str(inputs), "--output", str(output), *(f"--set={setting}" for setting in settings)]


def members(shards: dict[str, bytes]) -> dict[str, bytes]:
    found = {}
    for data in shards.values():
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                found[member.name] = tar.extractfile(member).read()
    return found


def faces(output: Path) -> list[dict]:
    found = Output(output)
    rows = [row for record in found.records() for row in found.manifest(record).to_pylist()]
    return [{"key": row["key"], **face} for row in rows for face in row["faces"]]


def test_every_photo_is_there_once_with_its_result_its_sidecar_and_its_story(finished, objects, photographs):
    status = Output(finished).status()
    assert status.counts["photos"] == 6
    assert status.errors == {"image.unreadable": 1}
    assert status.counts["faces_restored"] == status.counts["faces"] >= 5
    assert Output(finished).verify() == []

    written = members(objects(finished))
    for number, photo in enumerate(photographs):
        assert written[f"p{number}.jpg"] == photo
        assert written[f"p{number}.txt"] == b"caption"
        story = json.loads(written[f"p{number}.json"])
        assert {(face["n"], face["tau"]) for face in story["faces"]} == {(2, 20)}
        before = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"), float)
        after = Image.open(io.BytesIO(written[f"p{number}.restored.png"]))
        change = np.abs(np.asarray(after.convert("RGB"), float) - before).max(axis=-1)
        assert after.size == (story["input"]["width"], story["input"]["height"])
        assert change.max() > 0
        assert (change == 0).mean() > 0.5  # most of a photo is not a face
    assert (finished / "report.html").stat().st_size > 10_000


def test_a_grey_photo_stays_grey(finished, objects):
    written = members(objects(finished))
    assert Image.open(io.BytesIO(written["p3.restored.png"])).mode == "L"
    assert Image.open(io.BytesIO(written["p3.face00.png"])).mode == "L"
    assert Image.open(io.BytesIO(written["p0.restored.png"])).mode == "RGB"


def test_a_finished_run_says_so_without_ray_and_torch(finished, collection, quick):
    code = (
        "import sys; from jobs.cli import main\n"
        "try: main()\n"
        "finally: print('loaded', sorted({'ray', 'torch'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments(collection, finished, quick)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 3, answer.stderr
    assert "nothing was left to do" in answer.stdout
    assert "loaded []" in answer.stdout


@pytest.mark.slow
def test_workers_and_batches_change_no_choice_and_images_by_rounding_only(
    finished, collection, cluster, quick, objects, tmp_path
):
    wide = ["resources.restore.workers=2", "resources.restore.batch=1", "resources.restore.threads=1"]
    run(collection, tmp_path / "out", [*quick, *wide, "resources.restore.cpus=0.3"])
    chosen = [(face["key"], face["status"], face["n"], face["tau"]) for face in faces(tmp_path / "out")]
    assert chosen == [(face["key"], face["status"], face["n"], face["tau"]) for face in faces(finished)]
    ours, theirs = members(objects(tmp_path / "out")), members(objects(finished))
    assert ours.keys() == theirs.keys()
    for name in (name for name in ours if name.endswith("face00.png")):
        a, b = (np.asarray(Image.open(io.BytesIO(data)), float) for data in (ours[name], theirs[name]))
        assert np.abs(a - b).max() <= 2


def test_again_and_from_s3_to_s3_the_bytes_are_the_same(finished, collection, cluster, quick, objects, s3, tmp_path):
    source, target = Location(s3.folder(), s3.options), s3.folder()
    for shard in sorted(collection.iterdir()):
        source.put(shard.name, shard)
    run(source.url, target, quick, **{"storage.input": s3.options, "storage.output": s3.options})
    for kind in ("shards", "rejects"):
        assert objects(target, kind, s3.options) == objects(finished, kind)
    record = Location(target, s3.options).read("run.json").decode()
    assert s3.secret not in record
    assert s3.key not in record


def test_killed_and_run_again_equals_undisturbed(finished, collection, cluster, quick, objects, tmp_path):
    output = tmp_path / "out"
    log = tmp_path / "log"
    with log.open("w") as stream:
        driver = subprocess.Popen([*DR2E, *arguments(collection, output, quick)], stdout=stream, stderr=stream)
        try:
            wait_for_commit(output, driver, log)
        finally:
            driver.kill()
            driver.wait()
    committed = Output(output).committed()
    assert 0 < len(committed) < len(Output(finished).committed()), "killed too late to prove anything"
    run(collection, output, quick)
    assert objects(output) == objects(finished)
    assert Output(output).verify() == []


def wait_for_commit(output: Path, driver: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and driver.poll() is None:
        if any((output / "commits").glob("*.json")):
            return
        time.sleep(0.01)
    pytest.fail(f"no unit was committed:\n{log.read_text()}")


def test_a_signal_ends_a_run_with_its_code_and_what_is_committed_stays(collection, cluster, quick, tmp_path):
    output, log = tmp_path / "out", tmp_path / "log"
    with log.open("w") as stream:
        driver = subprocess.Popen(
            [*DR2E, *arguments(collection, output, quick), "--address", cluster], stdout=stream, stderr=stream
        )
        try:
            wait_for_commit(output, driver, log)
            driver.send_signal(signal.SIGTERM)
            assert driver.wait(timeout=60) == 128 + signal.SIGTERM
        finally:
            driver.kill()
            driver.wait()
    assert "the same command continues" in log.read_text()
    assert Output(output).committed()


def bomb() -> bytes:
    """A PNG of some bytes that says it is 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_bad_input_is_quarantined_with_reasons_and_the_rest_restored(photographs, cluster, quick, objects, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    good, other = photographs[:2]
    write_shard(
        shards / "bad.tar",
        [
            ("good.jpg", good),
            ("truncated.jpg", good[: len(good) // 2]),
            ("empty.jpg", b""),
            ("text.jpg", b"not a photograph at all"),
            ("bomb.png", bomb()),
            ("twice.jpg", good),
            ("between.jpg", other),
            ("twice.jpg", good),
        ],
    )
    whole = tmp_path / "whole.tar"
    write_shard(whole, [("first.jpg", good), ("second.jpg", other)])
    (shards / "cut.tar").write_bytes(whole.read_bytes()[: len(good) + 4096])

    output = tmp_path / "out"
    summary = run(shards, output, [*quick, "unit.max_samples=256"])
    assert summary.quarantined == sum(summary.status.errors.values())
    found = Output(output)
    rows = {row["key"]: row for record in found.records() for row in found.manifest(record).to_pylist()}
    reasons = {key: row["error"] for key, row in rows.items() if row["status"] == "rejected"}
    assert reasons == {
        "truncated": "image.truncated",
        "empty": "image.empty",
        "text": "image.unreadable",
        "bomb": "image.too_large",
        "twice": "sample.duplicate_key",
        "second": "sample.cut",
        "cut.tar": "shard.truncated",
    }
    assert {key for key, row in rows.items() if row["status"] == "restored"} == {"good", "between", "first"}
    rejected = members(objects(output, "rejects"))
    assert rejected["truncated.jpg"] == good[: len(good) // 2]
    assert json.loads(rejected["bomb.error.json"])["error"] == "image.too_large"
    assert found.verify() == []


def test_an_image_in_is_an_image_out(photographs, cluster, quick, tmp_path):
    photo = tmp_path / "portrait.jpg"
    photo.write_bytes(photographs[0])
    summary = run(photo, tmp_path / "out", quick)
    restored = Image.open(tmp_path / "out" / "restored" / "portrait.png")
    assert summary.photos == str(tmp_path / "out" / "restored")
    assert restored.size == Image.open(photo).size
    assert run(photo, tmp_path / "out", quick).was_complete


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "IN", "--output", "OUT", "--tua", "280"], "No such option '--tua'"),
        (["--input", "IN", "--output", "OUT", "--set", "restor.n=4"], "unknown setting restor"),
        (["--input", "IN", "--output", "OUT", "--n", "4"], "needs both n and tau"),
        (["--input", "IN", "--output", "OUT", "--prior", "gone.safetensors"], "gone.safetensors is missing"),
        (["--input", "IN", "--output", "OUT", "--config", "gone.yaml"], "gone.yaml: cannot read"),
        (["--input", "IN/gone.tar", "--output", "OUT"], "gone.tar"),
        (["--input", "IN", "--output", "nosuch://bucket/out"], "nosuch"),
        (["--input", "IN", "--output", "OUT", "--storage-options", "{key: x}"], "--storage-options"),
    ],
)
def test_what_the_user_got_wrong_is_one_line_and_exit_2_before_ray(options, message, collection, tmp_path):
    filled = [text.replace("IN", str(collection)).replace("OUT", str(tmp_path / "out")) for text in options]
    answer = subprocess.run([*DR2E, "restore", *filled], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("setting", "what"), [("seed=1", "seed was 0, is 1"), ("restore.tau=30", "restore.tau was 20")]
)
def test_other_settings_do_not_continue_a_run(setting, what, finished, collection, quick):
    answer = subprocess.run(
        [*DR2E, *arguments(collection, finished, [*quick, setting])], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert what in answer.stderr
    assert "name a new --output" in answer.stderr
