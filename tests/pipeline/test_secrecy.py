"""Credentials are refused where they would be shown, and hidden in what others say."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from jobs import cli
from jobs.options import parse_storage
from pipeline.config import ConfigError, build, load
from pipeline.inputs import InputError, resolve_inputs
from pipeline.models import ModelError, describe
from pipeline.packing import find_images
from pipeline.run import Run
from pipeline.secrecy import complaint, shown
from pipeline.storage import Location, StorageError
from pipeline.tar import write_shard
from pipeline.work import Shards

WITH = [
    "s3://KEY:HUSH@bucket/x",
    "s3://KEY:HU/SH+HUSH@bucket/x",
    "s3://KEY:12/HUSH@bucket/x",
    "s3://KEY:HUSH/x",
    "s3://KEY:12/HUSH/x",
    "s3a://HUSH@bucket/x",
    "https://user:HUSH@host/x",
    "https://user:HU/HUSH@host:8080/x",
    "HTTPS://HUSH@host/x",
    "sftp://user:HUSH@host/x",
    "simplecache::s3://KEY:HUSH@bucket/x",
    "zip://a.zip::https://user:HUSH@host/a.zip",
    "https://host/a.tar?X-Amz-Signature=HUSH",
    "https://host/a.tar?key=HUSH",
    "abfs://container@account.dfs.core.windows.net/x?sv=1&sig=HUSH",
    "s3://bucket/x?X-Amz-Security-Token=HUSH",
    "s3://KEY:HUSH@bucket/{0..1}.tar",
]
WITHOUT = [
    "/scans/a:b@c/d?e=f",
    "a:b@c",
    "s3://bucket/a@b/c:d@e",
    "s3://bucket/d?e=f&g.tar",
    "s3://bucket/scans [2019] {1..2} #3 50% ?/x@y:z",
    "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/mine/x",
    "abfs://container@account.dfs.core.windows.net/x",
    "hdfs://user@host:8020/x",
    "sftp://user@host/x",
    "https://host:8080/a@b/x",
    "http://127.0.0.1:80/a?.tar",
    "http://[::1]:80/a@b",
    "memory://x",
    "github://organisation:repository@main/x",
    "https://host/a.tar?download=1",
]


@pytest.mark.parametrize("url", WITH)
def test_a_url_with_credentials_is_refused_in_a_line_that_shows_none(url: str, tmp_path: Path) -> None:
    told = []
    for use in (
        lambda: Location(url),
        lambda: resolve_inputs(url),
        lambda: find_images(url),
        lambda: build({"input": url, "output": str(tmp_path)}),
        lambda: build({"input": str(tmp_path), "output": url}),
    ):
        with pytest.raises((StorageError, InputError, ConfigError)) as caught:
            use()
        told.append(str(caught.value))
    for line in told:
        assert "HUSH" not in line and "HU/" not in line and "\n" not in line
        assert "--storage-options @FILE" in line
    assert "HUSH" not in shown(f"cannot list '{url}' ({url}): no")


@pytest.mark.parametrize("url", WITHOUT)
def test_other_urls_and_paths_are_taken_and_shown_as_they_are(url: str) -> None:
    assert complaint(url) is None
    assert shown(f"cannot list '{url}': no") == f"cannot list '{url}': no"
    assert build({"input": url, "output": url}).output == url


def test_storage_options_have_no_repr_wherever_they_go(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.tar", [("a.png", b"")])
    options = {"output": {"secret": "HUSH"}, "input": {"secret": "HUSH"}}
    config = build({"input": str(tmp_path), "output": str(tmp_path / "out"), "storage": options})
    run = Run(config, describe(config))
    (read,) = Shards(run, resolve_inputs(config.input)).left().reads
    travelled = pickle.loads(pickle.dumps((read, run)))
    assert travelled[1].output.location.options == config.storage.output == {"secret": "HUSH"}
    for whole in (read, vars(run), vars(run.output.location), config.storage.input, vars(config.storage), travelled):
        assert "HUSH" not in f"{whole!r} {whole}"


def test_a_fault_of_ours_is_told_without_credentials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("at https://user:HUSH@host/x with environment/HUSH")

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "environment/HUSH")
    monkeypatch.setattr("jobs.status.opened", fail)
    monkeypatch.setattr("sys.argv", ["dr2e", "status", "out"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == cli.FAILED
    assert "Traceback" in told and "KeyError: 'at https://***@host/x with ***'" in told and "HUSH" not in told


def test_what_a_client_repeats_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from/the+environment")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "htp:/user:hush@host")
    options = {"secret": "option/text", "more": [{"password": "deeper"}], "endpoint_url": "http://host:1", "n": "ab"}
    said = "from/the+environment from%2Fthe%2Benvironment option/text deeper htp:/user:hush@host http://host:1 ab"
    assert shown(said, options) == "*** *** *** *** *** http://host:1 ab"


@pytest.mark.parametrize("source", ["https://host/m?sig=HUSH", "https://u:HUSH@host/m.safetensors", "s3://b/m.pth"])
@pytest.mark.parametrize("role", ["detect.detector", "restore.prior", "restore.niqe", "enhance.enhancer"])
def test_a_model_is_not_named_by_a_url_for_its_name_is_recorded(role: str, source: str) -> None:
    config = load(None, [], {"input": "a", "output": "b", role: source})
    with pytest.raises(ModelError, match=f"{role.partition('.')[2]}: models are not read from URLs") as caught:
        describe(config)
    assert "HUSH" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("quote.yaml", 'storage:\n  output: {secret: "HUSH, key: b\n', "at line 3"),
        ("colon.yaml", "storage:\n  output:\n    secret: HUSH: x\n", "at line 3, column 17"),
        ("bare.toml", "[storage.output]\nsecret = HUSH\n", "at line 2"),
        ("bytes.yaml", b"secret: HUSH\xff", "it is not UTF-8"),
    ],
)
def test_a_file_of_settings_that_does_not_parse_is_not_quoted(
    name: str, text: str | bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=told) as caught:
        load(tmp_path / name)
    assert "HUSH" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    "assignment",
    [
        'storage.output={secret: "HUSH',
        "storage.output.secret:HUSH",
        "storage.output=HUSH",
        "output={secret: HUSH}",
        "seed={secret: HUSH}",
        "seed=https://user:HUSH@host/x",
    ],
)
def test_a_setting_given_wrongly_does_not_show_what_may_be_secret(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            None, [assignment], {"input": "a", "output": "b"} if not assignment.startswith("output") else {"input": "a"}
        )
    assert "HUSH" not in str(caught.value) and "\n" not in str(caught.value)


def test_storage_options_given_wrongly_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "options.json").write_bytes(b'\xff{"secret": "HUSH"}')
    for text in ('{"secret": "HUSH"', '@{"secret": "HUSH"}', "['HUSH']", f"@{tmp_path}/options.json"):
        with pytest.raises(ConfigError) as caught:
            parse_storage(text)
        assert "HUSH" not in str(caught.value) and "\n" not in str(caught.value)
