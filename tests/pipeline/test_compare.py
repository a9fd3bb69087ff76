from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from jobs.compare import command
from pipeline.config import ConfigError
from pipeline.evaluation.compare import compare, markdown, verdict
from pipeline.evaluation.driver import SETTINGS
from pipeline.evaluation.measure import object_name
from pipeline.evaluation.results import METHODS, FaceResult, PhotoResult, Version, to_parquet
from pipeline.ledger import LedgerError
from pipeline.storage import Location

FACES = 40
Values = Callable[[int], dict[str, float | None]]


def evaluation(folder: Path, values: Values, seed: int = 0, faces: int = FACES, sample: str = "s") -> Location:
    """An evaluation of faces whose final version measures as `values` of their number says."""
    location = Location(folder)
    told = {"config": {"seed": seed, "evaluate": {"size": 256, "sample": sample}}}
    location.put(SETTINGS, json.dumps(told).encode())
    photos = []
    for number in range(faces):
        versions = tuple(
            Version(method, values(number) if method == METHODS[-1] else {"psnr": 0.0}) for method in METHODS
        )
        face = FaceResult("severe-8", "restored", "", 4, 150, 9, versions)
        photos.append(PhotoResult("shard.tar", f"key{number}", "measured", faces=(face,)))
    location.put(object_name("one"), to_parquet(photos[: faces // 2]))
    location.put(object_name("two"), to_parquet(photos[faces // 2 :]))
    return location


def hardness(number: int) -> float:
    """Faces differ much more than two sets of models do."""
    return float(np.sin(number) * 10)


def test_a_small_difference_shows_face_by_face(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", lambda i: {"psnr": 20 + hardness(i), "niqe": 5.0, "ssim": None})
    second = evaluation(
        tmp_path / "b", lambda i: {"psnr": 20.3 + hardness(i) + 0.1 * (i % 2), "niqe": 5 + (-1) ** i * 0.1, "ssim": 0.5}
    )
    found = compare(first, second)
    assert [(one.setting.name, one.metric.name, one.better) for one in found] == [
        ("severe-8", "psnr", True),
        ("severe-8", "niqe", None),
    ]
    assert np.isclose(found[0].change.mean or 0, 0.35) and found[0].change.n == FACES
    assert (found[0].change.half_width or 0) < 0.03 < (found[0].first.half_width or 0)
    assert compare(second, first)[0].better is False
    assert "| severe-8 | 40 |" in markdown(found) and "**" in markdown(found)
    assert verdict(found).startswith("Figures: 2. The second is better in 1 and worse in 0")


def test_faces_that_one_lacks_are_left_out(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", lambda i: {"psnr": 20 + hardness(i)})
    second = evaluation(tmp_path / "b", lambda i: {"psnr": 20 + hardness(i)}, faces=10)
    (found,) = compare(first, second)
    assert found.change.n == 10 and found.change.mean == 0 and found.better is None


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "a", lambda i: {"psnr": 20.0})
    with pytest.raises(ConfigError, match=r"different seed"):
        compare(first, evaluation(tmp_path / "b", lambda i: {"psnr": 20.0}, seed=1))
    with pytest.raises(ConfigError, match=r"different faces"):
        compare(first, evaluation(tmp_path / "c", lambda i: {"psnr": 20.0}, sample="t"))
    with pytest.raises(ConfigError, match=r"no face in common"):
        compare(first, evaluation(tmp_path / "d", lambda i: {"psnr": None}))
    with pytest.raises(ConfigError, match=r"is no evaluation"):
        compare(first, Location(tmp_path / "nothing"))
    Location(tmp_path / "e").put(SETTINGS, b"{}")
    with pytest.raises(LedgerError, match=r"does not describe its evaluation"):
        compare(first, Location(tmp_path / "e"))


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    for name, psnr in (("a", 20.0), ("b", 21.0)):
        evaluation(tmp_path / name, lambda i, psnr=psnr: {"psnr": psnr + hardness(i) + 0.01 * (i % 2) * psnr})
    arguments = [str(tmp_path / "a"), str(tmp_path / "b")]
    said = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert said.exit_code == 0 and "20.39 → **21.39**" in said.output
    told = json.loads(CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).output)
    assert told["differences"][0]["better"] is True and "in 1 and worse in 0" in told["verdict"]
