"""Every exhibit of bad input, through the stages and through a whole run: nothing lost, doubled or hushed up."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faults.zoo.by_stages import by_stages, config
from faults.zoo.collection import exhibits, write
from faults.zoo.encode import face
from faults.zoo.exhibit import PHOTOS, Exhibit
from faults.zoo.stored import Stored
from faults.zoo.table import PAGE, renewed, row
from jobs.api import restore
from pipeline.output import Output
from pipeline.storage import Location
from pipeline.unpacking import unpack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def output(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    from pipeline.stages import Detect

    settings = config(folder, tmp_path_factory.mktemp("stages") / "out")
    return by_stages(settings, Detect(settings, 64, "cpu", 1))


@pytest.fixture(scope="module")
def stored(output: Output) -> Stored:
    return Stored(output)


@pytest.mark.parametrize("exhibit", exhibits(), ids=lambda exhibit: exhibit.name)
def test_every_exhibit_ends_as_it_must(exhibit: Exhibit, stored: Stored) -> None:
    stored.check(exhibit)


def test_the_output_holds_the_zoo_and_nothing_else(stored: Stored, output: Output) -> None:
    expected = Counter((exhibit.shard, key) for exhibit in exhibits() for key in exhibit.fates)
    assert Counter((shard, row["key"]) for shard, rows in stored.rows.items() for row in rows) == expected
    assert set(expected.values()) == {1}, "two exhibits share a key"
    assert output.verify() == []


def test_pixels_are_understood_whatever_their_form(stored: Stored) -> None:
    """Odd forms of one photograph give that photograph: what is written resembles it."""
    reference = np.asarray(face().convert("L"), float)
    restored = [photo for photo in stored.rows[PHOTOS] if photo["status"] == "restored"]
    assert len(restored) > 25
    for photo in restored:
        image = Image.open(io.BytesIO(stored.members[PHOTOS, "shards"][photo["restored_name"]]))
        assert image.size == face().size, photo["key"]
        likeness = np.corrcoef(np.asarray(image.convert("L"), float).ravel(), reference.ravel())[0, 1]
        assert likeness > (0.4 if photo["key"] == "one-bit" else 0.95), photo["key"]


def test_transparency_is_kept_and_grey_stays_grey(stored: Stored) -> None:
    written = stored.members[PHOTOS, "shards"]
    modes = {
        key: Image.open(io.BytesIO(written[f"{key}.restored.png"])).mode for key in ("palette", "alpha", "grey-16")
    }
    assert modes == {"palette": "RGBA", "alpha": "RGBA", "grey-16": "L"}
    assert Image.open(io.BytesIO(written["grey-alpha.restored.png"])).convert("RGB").getcolors(256) is not None


def test_sidecars_named_like_our_results_stay_and_ours_step_aside(stored: Stored) -> None:
    written = stored.members["own-names.tar", "shards"]
    mine = {name for name, data in written.items() if data == b"mine"}
    assert mine == {f"a.{extension}" for extension in ("json", "restored.png", "face00.png", "error.json", "dr2e.json")}
    assert len(written) == len(mine) + 2  # the photo and its story


def test_every_good_photo_unpacks_to_a_file_of_its_own(output: Output, tmp_path: Path) -> None:
    good = [key for exhibit in exhibits() for key, fate in exhibit.fates.items() if fate.status != "rejected"]
    for _ in range(2):  # going on over a finished folder changes nothing
        counts = unpack(output, Location(tmp_path))
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(good)
    assert counts.present == len(good)
    for name in ("Photo.png", "photo.png", "größe.png", "100%.png", "h[0].png", "a b.png"):
        assert list(tmp_path.rglob(name.replace("[", "[[]"))), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_run_gives_every_exhibit_the_same_end(folder: Path, cluster: str, tmp_path: Path) -> None:
    settings = config(folder, tmp_path / "out", "restore.n=2", "restore.tau=20")
    summary = restore(settings, progress=io.StringIO())
    output = Output(settings.output)
    stored = Stored(output)
    for exhibit in exhibits():
        stored.check(exhibit)
    rejected = sum(fate.status == "rejected" for exhibit in exhibits() for fate in exhibit.fates.values())
    assert summary.quarantined == rejected
    assert output.verify() == []


def test_every_exhibit_has_its_row_in_the_documentation() -> None:
    page = PAGE.read_text()
    assert len(exhibits()) >= 40
    for exhibit in exhibits():
        assert row(exhibit) in page, exhibit.name
    assert renewed(page) == page, "run python -m faults.zoo.table"
