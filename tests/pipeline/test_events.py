"""Events: who is told, what is written of them, and that no run fails of it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from metrics_page import PAGE, renewed

from jobs import cli
from pipeline.config import ConfigError
from pipeline.events import lines
from pipeline.events.kinds import EVENTS, PhotoRejected, Progressed, RoundBrokeOff
from pipeline.events.label import label_of
from pipeline.events.lines import LineByLine, begin_json_log, end_json_log, events_to
from pipeline.events.telling import Told, listening, of_run, tell
from pipeline.progress import Progress

BROKEN = RoundBrokeOff(number=2, reason="no\nroom")


@pytest.fixture
def json_log() -> Iterator[None]:
    begin_json_log()
    yield
    end_json_log()


def test_whoever_listens_is_told_with_the_run_and_the_time() -> None:
    heard: list[Told] = []
    with listening(heard.append), of_run("out-1"):
        tell(BROKEN)
    tell(BROKEN)
    assert [(told.run, told.event) for told in heard] == [("out-1", BROKEN)]
    assert heard[0].time.utcoffset() is not None


def test_a_listener_that_fails_is_told_no_more_and_the_others_are(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Told] = []

    def full(_: Told) -> None:
        raise OSError("no space left on device")

    # Libraries that other tests import turn warnings off.
    with caplog.at_level(logging.WARNING), listening(full), listening(heard.append):
        tell(BROKEN)
        tell(BROKEN)
    assert len(heard) == 2
    (warning,) = caplog.messages
    assert "no space left on device" in warning


def test_a_line_has_what_every_line_has_and_the_fields_of_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with events_to(file), of_run("out-1"):
        tell(BROKEN)
        assert json.loads(file.read_text())["number"] == 2, "it is not flushed"
        tell(PhotoRejected(unit="u", key='a "b"\n', code="image.empty"))
        tell(progressed())
    with events_to(file), of_run(""):
        tell(BROKEN)
    first, second, third = map(json.loads, file.read_text().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "warning",
        "run": "out-1",
        "event": "round_broke_off",
        "unit": "",
        "key": "",
        "number": 2,
        "reason": "no\nroom",
        "message": "round 2 broke off: no room",
    }
    assert (second["unit"], second["key"], second["code"]) == ("u", 'a "b"\n', "image.empty")
    assert (third["event"], third["run"]) == ("round_broke_off", "")


def test_a_file_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--events .*No such file.*name a file"), events_to(tmp_path / "a" / "b"):
        pass


def test_credentials_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HUSH/hush")
    with events_to(tmp_path / "events"):
        tell(RoundBrokeOff(number=1, reason="at https://user:HUSH@host/x with HUSH/hush"))
    assert "HUSH" not in (tmp_path / "events").read_text()


def test_text_stays_as_it_was(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.WARNING):
        tell(BROKEN, logging.getLogger("pipeline.rounds"))
    assert caplog.messages == ["round 2 broke off: no\nroom"]
    stream = io.StringIO()
    with Progress(10, stream):
        pass
    assert stream.getvalue().startswith("starting Ray    0%  0 photos")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("json_log")
def test_a_log_of_json_has_events_once_and_all_else_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    tell(BROKEN, logging.getLogger("pipeline.rounds"))
    logging.getLogger("pipeline.storage").warning("cannot read %s", "x")
    cli.complain("interrupted", "warning")
    print("a step\nand", file=LineByLine(), end="")
    with Progress(10):
        pass
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["message"]) for line in said[:4]] == [
        ("round_broke_off", "warning", "round 2 broke off: no room"),
        ("log", "warning", "cannot read x"),
        ("log", "warning", "interrupted"),
        ("log", "info", "a step"),
    ]
    assert [line["event"] for line in said[4:]] == ["progressed"]


def test_an_error_of_a_command_is_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("DR2E_LOG", "json")
    monkeypatch.setattr("sys.argv", ["dr2e", "status", str(tmp_path / "nothing")])
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        end_json_log()
    assert ended.value.code == cli.USAGE
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["event"]) == ("error", "log") and "no run was started here" in line["message"]
    assert not lines.is_json_log()


def test_runs_have_short_names_that_tell_them_apart() -> None:
    first, second = label_of("s3://archive/2026/restored"), label_of("s3://other/2026/restored/")
    assert first.startswith("restored-") and second.startswith("restored-") and first != second
    assert label_of("/" + "ä b" * 100).startswith("b-b-b") and len(label_of("/" + "x" * 1000)) == 49
    assert label_of("/").startswith("output-")


def test_the_page_lists_every_metric_and_event() -> None:
    page = PAGE.read_text()
    assert renewed(page) == page, "run python -m metrics_page in tests"
    assert all(f"`{kind.name()}`" in page for kind in EVENTS)


def progressed() -> Progressed:
    return Progressed(phase="", done=0, photos=0, faces=0, rejected=0, left=0, seconds=0, seconds_left=None)
