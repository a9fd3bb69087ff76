"""`dr2e demo`: leaves what is not its own alone; from nothing it makes a run, photographs, a table and a page."""

import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.demo import clear, command
from jobs.demonstration.collection import SHARD, collection
from pipeline.output import Output


def test_it_replaces_an_earlier_demo(tmp_path: Path):
    for part in ("input", "output", "photos"):
        (tmp_path / part).mkdir()
    (tmp_path / "input" / SHARD).touch()
    (tmp_path / "notes.txt").touch()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_it_refuses_a_folder_with_other_things(tmp_path: Path):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "precious.tar").touch()
    with pytest.raises(click.UsageError, match="name another folder"):
        clear(tmp_path)
    assert (tmp_path / "output" / "precious.tar").exists()


def test_an_empty_or_absent_folder_is_fine(tmp_path: Path):
    clear(tmp_path)
    clear(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_nothing_to_the_report(tmp_path: Path):
    folder = tmp_path / "demo"
    result = CliRunner().invoke(command, [str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for severity in ("mild", "medium", "severe"):
        assert re.search(rf"^{severity} +\d+ +\d+\.\d\d -> \d+\.\d\d ", result.output, re.MULTILINE)
    assert str(folder / "output" / "report.html") in result.output
    assert (folder / "output" / "report.html").stat().st_size > 10_000

    items = collection()
    counts = Output(folder / "output").status().counts
    assert counts["photos"] == len(items)
    assert counts["rejected"] == 0
    assert {path.stem for path in (folder / "photos").iterdir()} == {item.key for item in items}
    (grey,) = [item.key for item in items if item.grey]
    pixels = np.asarray(Image.open(folder / "photos" / f"{grey}.png").convert("RGB"))
    assert (pixels == pixels[..., :1]).all()
