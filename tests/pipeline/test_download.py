"""Downloads go on where they were cut, give away whole files alone, and keep what an address holds to themselves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from web import Site, served

from pipeline.store import download as module
from pipeline.store.download import download, shown_url
from pipeline.store.errors import ModelError

BODY = random.Random(0).randbytes(300_000)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 64 * 1024)


def test_a_file_arrives_whole_and_its_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with served(Site(BODY)) as site:
        part = download(site.url, tmp_path, size=len(BODY), show=lambda *now: told.append(now))
    assert part.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY)) and told == sorted(told) and len(told) > 4
    assert list(tmp_path.iterdir()) == [part]


def test_a_cut_download_is_gone_on_from(tmp_path: Path) -> None:
    with served(Site(BODY, cut_after=[64 * 1024, 64 * 1024, 10_000])) as site:
        with pytest.raises(ModelError, match=r"cannot download .*goes on from the 131,072 bytes that are here"):
            download(site.url, tmp_path, patience=0.0)
        assert site.sent == 2 * 64 * 1024 + 10_000
        assert download(site.url, tmp_path).read_bytes() == BODY
    assert site.sent == len(BODY) + 10_000  # nothing that was there came again
    assert f"bytes={2 * 64 * 1024}-" in site.seen[3]


def test_a_cut_is_tried_again_while_it_gets_on(tmp_path: Path) -> None:
    with served(Site(BODY, cut_after=[100, 64 * 1024, 100, 100])) as site:
        assert download(site.url, tmp_path, patience=10.0).read_bytes() == BODY


def test_what_changed_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    with served(Site(BODY, cut_after=[64 * 1024, 1])) as site:
        with pytest.raises(ModelError):
            download(site.url, tmp_path, patience=0.0)
        site.body, site.version = BODY[::-1], "2"
        assert download(site.url, tmp_path).read_bytes() == BODY[::-1]


def test_a_server_without_ranges_sends_it_all(tmp_path: Path) -> None:
    with served(Site(BODY, ranges=False)) as site:
        assert download(site.url, tmp_path).read_bytes() == BODY


def test_another_size_and_no_file_are_told_at_once(tmp_path: Path) -> None:
    with served(Site(BODY)) as site, pytest.raises(ModelError, match="it has 300,000 bytes there, and should have 7"):
        download(site.url, tmp_path, size=7)
    assert site.sent == 0
    with pytest.raises(ModelError, match=r"cannot download http://127\.0\.0\.1:1/x: ClientConnectorError"):
        download("http://127.0.0.1:1/x?sig=HUSH", tmp_path, patience=0.0)
    with pytest.raises(ModelError, match="cannot download gopher://host/x: ValueError"):
        download("gopher://user:HUSH@host/x", tmp_path, patience=0.0)


def test_a_signed_address_is_used_and_never_shown(tmp_path: Path) -> None:
    with served(Site(BODY, signature="sig=HUSH")) as site:
        assert download(f"{site.url}?sig=HUSH", tmp_path).read_bytes() == BODY
        with pytest.raises(ModelError, match="the server answers 403") as caught:
            download(f"{site.url}?sig=WRONG", tmp_path / "other")
    assert "WRONG" not in str(caught.value) and "?" not in str(caught.value)
    assert shown_url("https://user:HUSH@host/a/b.pth?sig=HUSH#x") == "https://host/a/b.pth"


def test_another_query_may_be_another_file_and_is_begun_anew(tmp_path: Path) -> None:
    with served(Site(BODY, cut_after=[64 * 1024, 1])) as site:
        with pytest.raises(ModelError):
            download(f"{site.url}?file=1", tmp_path, patience=0.0)
        site.body = BODY[::-1]
        assert download(f"{site.url}?file=2", tmp_path).read_bytes() == BODY[::-1]


def test_without_a_version_nothing_is_spliced_unless_the_caller_checks(tmp_path: Path) -> None:
    with served(Site(BODY, cut_after=[64 * 1024, 1, 64 * 1024, 1], version="")) as site:
        with pytest.raises(ModelError) as caught:
            download(site.url, tmp_path, patience=0.0)
        assert "goes on" not in str(caught.value)
        with pytest.raises(ModelError, match="goes on from the 131,072 bytes"):
            download(site.url, tmp_path, patience=0.0, checked=True)
        site.cut_after, sent = [], site.sent
        assert download(site.url, tmp_path, checked=True).read_bytes() == BODY  # of a file that is known by its hash
        assert site.sent - sent == len(BODY) - 2 * 64 * 1024
        site.cut_after = [64 * 1024, 1]
        with pytest.raises(ModelError):
            download(f"{site.url}?2", tmp_path, patience=0.0)
        site.body = BODY[::-1]
        assert download(f"{site.url}?2", tmp_path).read_bytes() == BODY[::-1]
