"""The report of a real (small) output: true, self-contained, escaped, bounded; and a browser can show it."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.report import command
from operators.detect.align import template
from operators.images import encode_png
from pipeline.commit import CommitContext, commit_unit
from pipeline.output import Output
from pipeline.records import Face, Photo
from pipeline.report import write_report
from pipeline.report.facts import GALLERY, QUARANTINE_EXAMPLES, Facts, Scores, galleries

VOID = {"meta", "img", "br", "path", "rect", "link", "input", "hr"}
NASTY_KEY = "a/<b>&\"'key"
NASTY_MESSAGE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags with attributes, and the text without markup; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += " " + " ".join(data.split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def _face(rng: np.random.Generator, niqe_in: float | None, niqe_out: float | None, kept: bool = False) -> Face:
    crop = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Face(
        box=(4, 4, 28, 28),
        score=0.9,
        landmarks=template(32).astype(np.float32),
        matrix=np.array([[1.0, 0, 0], [0, 1, 0]]),
        crop=crop,
        dr2=None if kept else crop,
        image=crop,
        status="kept" if kept else "restored",
        n=None if kept else 4,
        tau=None if kept else 280,
        niqe_in=niqe_in,
        niqe_out=niqe_out,
        evaluations=0 if kept else 40,
    )


def _photo(unit: str, index: int, size: int, key: str, image: bytes) -> Photo:
    return Photo(
        unit=unit,
        index=index,
        unit_size=size,
        key=key,
        image_name=f"{key}.png",
        image=image,
        shard=f"{unit}.tar",
        width=32,
        height=32,
        started="2026-11-20T10:00:00+00:00",
        seconds={"detect": 0.5, "restore": 2.0},
    )


def _commit(folder: Path, unit: str, faces_of: list[list[Face]], rejected: int = 0) -> None:
    """Commit a unit: one photo per list of faces, then rejected ones."""
    image = encode_png(np.zeros((32, 32, 3), np.uint8))
    size = len(faces_of) + rejected
    photos = []
    for index in range(size):
        photo = _photo(unit, index, size, f"{NASTY_KEY}{unit}{index}", image)
        if index < len(faces_of):
            photo.faces = faces_of[index]
            photo.status = "restored" if photo.faces else "no_face"
        else:
            photo.reject("image.truncated", NASTY_MESSAGE)
        photos.append(photo)
    commit_unit(Output(folder).location, photos, CommitContext(0, {"prior": "ab"}, {}))


def _start(folder: Path) -> None:
    model = {"source": "builtin", "name": "prior <128>", "licence": "Apache-2.0", "sha256": "ab" * 32}
    Output(folder).start({"config": {"restore": {"n": 4}}, "models": {"prior": model}, "versions": {"ray": "2.60.0"}})


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two units: 4 photos restored (5 faces, one kept, one that could not be scored), 1 without a face, 2 rejected."""
    rng = np.random.default_rng(0)
    faces = [[_face(rng, 8.0, 5.0)], [_face(rng, 7.0, 7.5)], [_face(rng, 4.0, 4.0, kept=True)], []]
    _start(tmp_path)
    _commit(tmp_path, "one-00000000-0000-of-0001", faces, rejected=2)
    _commit(tmp_path, "two-00000000-0000-of-0001", [[_face(rng, None, None), _face(rng, 9.0, 3.0)]])
    return tmp_path


def _page(folder: Path) -> Page:
    assert write_report(Output(folder)) == f"{folder}/report.html"
    return Page((folder / "report.html").read_text("utf-8"))


def test_it_counts_what_the_output_holds(small: Path):
    text = _page(small).text
    for figure in ("7 photos", "4 restored", "1 without a face", "2 quarantined", "5 faces", "1 kept as they were"):
        value, label = figure.split(" ", 1)
        assert re.search(rf"{label} +{value}\b", text), figure
    assert "2 units committed, from 20 November 2026, 10:00 UTC to" in text
    assert "Mean NIQE 7.00 before and 4.88 after; lower in 50.0 % of 4 faces" in text
    assert "160 network evaluations, 40.0 per face restored by DR2" in text


def test_it_shows_the_faces_with_their_numbers(small: Path):
    page = _page(small)
    assert len(page.all("img")) == 4  # the fifth face has no score, hence no rank and no preview
    for image in page.all("img"):
        data = base64.b64decode((image["src"] or "").removeprefix("data:image/jpeg;base64,"), validate=True)
        with Image.open(io.BytesIO(data)) as strip:
            assert strip.width == 3 * strip.height
    assert "NIQE 9.00 → 3.00 · N = 4, τ = 280" in page.text
    assert "NIQE 4.00 → 4.00 · kept, DR2 skipped" in page.text
    assert page.text.index("7.00 → 7.50") < page.text.index("9.00 → 3.00")


def test_it_names_time_quarantine_settings_and_models(small: Path):
    text = _page(small).text
    assert "image.truncated 2" in text
    assert "restore.n 4" in text
    assert "prior <128> builtin Apache-2.0" in text
    assert re.search(r"restore +\d\d\.\d % +14\.0 s +0\.500 +0\.357", text)


def test_nothing_comes_from_outside_and_nothing_runs(small: Path):
    page = _page(small)
    html = (small / "report.html").read_text("utf-8")
    assert not page.all("script")
    assert NASTY_MESSAGE in page.text
    assert f"{NASTY_KEY}one-00000000-0000-of-00010" in page.text
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert "url(" not in html
    assert "@import" not in html


def test_it_stays_small_however_large_the_run(tmp_path: Path):
    rng = np.random.default_rng(1)
    _start(tmp_path)
    for unit in range(12):
        faces = [[_face(rng, *rng.uniform(2, 12, 2))] for _ in range(8)]
        _commit(tmp_path, f"unit{unit}-00000000-0000-of-0001", faces, rejected=15)
    page = _page(tmp_path)
    assert GALLERY < len(page.all("img")) <= 4 * GALLERY
    assert len({image["alt"] for image in page.all("img")}) == len(page.all("img"))
    assert page.text.count(NASTY_MESSAGE) == QUARANTINE_EXAMPLES
    assert "image.truncated 180" in page.text


def test_a_run_without_commits_says_so(tmp_path: Path):
    _start(tmp_path)
    assert "Nothing has been committed here yet." in _page(tmp_path).text


def test_the_same_output_gives_the_same_page(small: Path):
    _page(small)
    first = (small / "report.html").read_bytes()
    _page(small)
    assert (small / "report.html").read_bytes() == first


def test_scores_beyond_the_axis_go_to_its_ends():
    scores = Scores()
    for value in (-0.1, 3.2, 500.0):
        scores.add(value)
    assert scores.counts[0] == scores.counts[6] == scores.counts[-1] == 1
    assert scores.mean == pytest.approx(503.1 / 3)


def test_faces_of_the_same_name_in_two_shards_are_two_faces():
    facts = Facts("out", {})
    for shard in ("a.tar", "b.tar"):
        face = {"status": "restored", "n": 4, "tau": 0, "evaluations": 1, "niqe_in": 5.0, "niqe_out": 4.0}
        facts.add_row({"status": "restored", "key": "k", "shard": shard, "faces": [face | {"preview": b"jpeg"}]})
    ((_, strips),) = galleries(facts)
    assert {strip.shard for strip in strips} == {"a.tar", "b.tar"}


@pytest.mark.parametrize("missing", [(None, 5.0), (5.0, None), (float("inf"), 5.0)])
def test_a_face_without_both_scores_is_left_out_of_the_comparison(missing):
    facts = Facts("out", {})
    face = {"status": "restored", "n": 4, "tau": 0, "evaluations": 1, "preview": b"jpeg"}
    face |= dict(zip(("niqe_in", "niqe_out"), missing, strict=True))
    facts.add_row({"status": "restored", "key": "k", "shard": "a.tar", "faces": [face]})
    assert facts.faces["restored"] == 1
    assert facts.compared == sum(facts.before.counts) == sum(facts.after.counts) == 0
    assert list(galleries(facts)) == []


def test_the_command_prints_where_it_is(small: Path):
    result = CliRunner().invoke(command, [str(small)])
    assert result.exit_code == 0
    assert result.output.strip() == str(small / "report.html")


def test_the_command_refuses_a_folder_without_a_run(tmp_path: Path):
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert "no run was started here" in str(result.exception)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
@pytest.mark.parametrize("width", [1400, 400])
def test_a_browser_shows_it_within_its_width(small: Path, tmp_path: Path, width: int):
    """What a browser lays out has the page's paper at its left and right edge: nothing sticks out."""
    write_report(Output(small))
    shot = tmp_path / "shot.png"
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},3000", f"--screenshot={shot}",
            (small / "report.html").as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB"))
    paper = pixels[0, 0]
    assert (pixels[:, :8] == paper).all()
    assert (pixels[:, -8:] == paper).all()
    assert (pixels != paper).any(axis=2).mean() > 0.02
