"""`dr2e submit`: what is refused here, what travels, and jobs on a real cluster that asks for a token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from click.testing import CliRunner
from ray.dashboard.modules.job.pydantic_models import JobDetails
from servers import S3, free_ports

from faults.checker import check
from faults.processes import descendants, kill, title
from faults.relay import Relay
from faults.served import Served, serve
from jobs import cli
from jobs.submission.arguments import SETTINGS
from jobs.submission.client import Cluster
from jobs.submission.follow import JobLost, ending, follow
from jobs.submission.package import LAUNCHER, write_package
from pipeline.storage import Location
from pipeline.tar import write_shard

TREE = Path(__file__).parents[2]
CANARY = "canary-5bd1e3c07f"

# At the end of a module that the driver and all workers of a stage import: says which copy of it they have.
_SIGHTING = """
import os as _os, tempfile as _tempfile
_handle, _ = _tempfile.mkstemp(dir={folder!r})
_os.write(_handle, __file__.encode())
_os.close(_handle)
"""


@dataclass
class Site:
    """A cluster, the tree that jobs are sent from, and the S3 server, whose credentials only the cluster has.

    sightings: where the sent code says that it was imported.
    """

    cluster: Served
    token: str
    tree: Path
    s3: S3
    sightings: Path

    def start(self, *words: str, token: str = "", url: str = "") -> subprocess.Popen[str]:
        """`dr2e submit` from a machine that has the token and another one's credentials of S3."""
        told = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))},
            "PYTHONPATH": str(self.tree),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token or self.token,
            "AWS_SECRET_ACCESS_KEY": CANARY,
        }
        code = "from jobs.cli import main; main()"
        command = [sys.executable, "-c", code, "submit", "--address", url or self.cluster.url, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.tree, env=told, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str, token: str = "", code: int = 0) -> tuple[str, str]:
        process = self.start(*words, token=token)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, out + err
        return out, err

    def upload(self, folder: Path, samples: dict[str, list[tuple[str, bytes]]]) -> tuple[str, dict[str, bytes]]:
        """Shards in a new place, and their bytes by name."""
        place, inputs = self.s3.folder(), {}
        for name, members in samples.items():
            write_shard(folder / name, members)
            inputs[name] = (folder / name).read_bytes()
            Location(f"{place}/shards", self.s3.options).put(name, folder / name)
        return place, inputs

    def stored(self, place: str) -> dict[str, bytes]:
        """The objects of the output at `place`."""
        output = Location(f"{place}/out", self.s3.options)
        return {entry.name: output.read(entry.name) for entry in output.entries()}


def restoring(place: str) -> list[str]:
    """The words of a run that takes little."""
    widths = [f"resources.{stage}.workers=1" for stage in ("detect", "restore", "enhance")]
    settings = [f"--set={setting}" for setting in ("unit.max_samples=2", *widths)]
    return ["restore", f"--input={place}/shards", f"--output={place}/out", "--n=2", "--tau=20", *settings]


@contextmanager
def served(folder: Path, s3: S3, machines: int) -> Iterator[Site]:
    tree, sightings = folder / "tree", folder / "sightings"
    sightings.mkdir()
    for package in ("operators", "pipeline", "jobs"):
        shutil.copytree(TREE / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tree / "pipeline" / "stages.py").open("a") as file:
        file.write(_SIGHTING.format(folder=str(sightings)))
    token = secrets.token_hex(16)
    there = {
        **s3.environment,
        "PYTHONPATH": str(TREE),  # another dr2e is installed there
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    cluster = serve(machines, token, there, folder / "cluster.log")
    try:
        yield Site(cluster, token, tree, s3, sightings)
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("site"), s3, machines=1) as found:
        yield found


def wait_for_work(process: subprocess.Popen[str]) -> str:
    """Until the job tells its progress; what it has said."""
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if "elapsed" in line:
            return "".join(said)
    raise AssertionError(said)


def found_below(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def submitted(*words: str, code: int = cli.USAGE) -> str:
    """What `dr2e submit` says, without a cluster, when it does not get that far."""
    result = CliRunner().invoke(cli.command, ["submit", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, cli._loaded(cli._USAGE_ERRORS))
        return str(result.exception)
    assert result.exit_code == code
    return result.output


BUCKETS = ("--input", "s3://archive/shards", "--output", "s3://archive/restored")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name the command to run there"),
        (("status", "s3://archive/restored"), "'status' is not run on a cluster"),
        (("restore", "--inputt", "s3://a"), "No such option '--inputt'"),
        (("restore", "--input", "s3://a"), "output is missing"),
        (("restore", *BUCKETS, "--set", "unit.samples=3"), "unknown setting unit.samples"),
        (("restore", *BUCKETS, "--n", "4"), "needs both n and tau"),
        (("restore", *BUCKETS, "--set", "pairs.n=4"), "dr2e pairs"),
        (("restore", *BUCKETS, "--metrics-port", "9464"), "a cluster's machines have a port of their own"),
        (("restore", *BUCKETS, "--address", "auto"), "--address belongs before 'restore'"),
        (("restore", "--input", "shards", "--output", "s3://a"), "input: shards would be looked for in another folder"),
        (("restore", "--input", "s3://a", "--output", "~/out"), "output: ~/out would be looked for"),
        (("restore", *BUCKETS, "--enhancer", "mine.safetensors"), "enhancer: mine.safetensors would be looked for"),
        (("restore", *BUCKETS, "--enhancer", "gfpgan-1.4"), "gfpgan-1.4 is a model of a store, and the cluster's"),
        (
            ("restore", *BUCKETS, "--enhancer", "gfpgan-1.4", "--set", "models.store=mine"),
            "models.store: mine would be looked for",
        ),
        (("restore", *BUCKETS, "--prior", "https://models/x"), "models are not read from URLs"),
        (("restore", *BUCKETS, "--events", "events.jsonl"), "--events: events.jsonl would be looked for"),
        (("pairs", *BUCKETS, "--recipe", "none"), "none"),
        (("evaluate", *BUCKETS, "--settings", "severe-5"), "severe-5 is none of"),
        (("evaluate", *BUCKETS, "--grid-step", "20"), "--grid-step belongs to --select"),
        (("evaluate", *BUCKETS, "--weights", "weights"), "--weights: weights would be looked for"),
        (("curate", *BUCKETS, "--faces", "s3://faces"), "--training: s3://archive/restored is no folder"),
        (("curate", *BUCKETS, "--faces", "faces", "--training", "/shared"), "--faces: faces would be looked for"),
        (("retry", "s3://a", "--set", "seed=4"), "limits.*, resources.*, models.* alone"),
        (("verify", "s3://a", "--sample", "many"), "Invalid value for '--sample'"),
        (("--follow", "one", "restore"), "one of them"),
        (("--id", "../one", "restore"), "Invalid value for '--id'"),
    ],
)
def test_a_mistake_is_told_here_and_now(words, told):
    assert told in submitted(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("restore", *BUCKETS, "--storage-options", f'{{"secret": "{CANARY}"}}'),
        ("retry", "s3://a", "--storage-options", "@options.json"),
        ("restore", *BUCKETS, "--set", f"storage.input.secret={CANARY}"),
        ("retry", "s3://a", "--set", f"storage.output.secret={CANARY}"),
        ("restore", "--input", f"s3://key:{CANARY}@archive/shards", "--output", "s3://a"),
        ("verify", f"https://archive/out?X-Amz-Signature={CANARY}"),
        ("restore", *BUCKETS, "--set", f"pairs.identity={CANARY}"),
        ("restore", *BUCKETS, "--config", "run.yaml"),
        ("pairs", *BUCKETS, "--config", "identity.yaml"),
        ("--address", f"http://user:{CANARY}@head:8265", "restore", *BUCKETS),
    ],
)
def test_secrets_are_refused_and_not_shown(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    Path("run.yaml").write_text(yaml.safe_dump({"storage": {"output": {"secret": CANARY}}}))
    Path("identity.yaml").write_text(yaml.safe_dump({"pairs": {"identity": f"^{CANARY}"}}))
    told = submitted(*words)
    assert CANARY not in told
    assert "environment of the cluster" in told or "RAY_AUTH_TOKEN" in told


def test_the_package_is_all_of_dr2e_and_nothing_else(tmp_path):
    for name in ("once.zip", "again.zip"):
        write_package(tmp_path / name, {"seed": 4})
    assert (tmp_path / "once.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "once.zip") as archive:
        names = set(archive.namelist())
        assert yaml.safe_load(archive.read(SETTINGS)) == {"seed": 4}
    ours = {name for name in names if name.partition("/")[0] in ("operators", "pipeline", "jobs")}
    (metadata,) = names - ours - {SETTINGS, LAUNCHER}
    assert metadata.endswith(".dist-info/METADATA")
    known = subprocess.run(
        ["git", "ls-files", "operators", "pipeline", "jobs"], cwd=TREE, capture_output=True, text=True
    )
    if known.returncode == 0:
        assert set(known.stdout.split()) <= ours
    write_package(tmp_path / "settings.zip", {"seed": 4}, code=False)
    assert zipfile.ZipFile(tmp_path / "settings.zip").namelist() == [SETTINGS]


def test_a_python_that_lacks_what_dr2e_needs_says_so(tmp_path):
    write_package(tmp_path / "package.zip", None)
    zipfile.ZipFile(tmp_path / "package.zip").extractall(tmp_path)
    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    metadata.write_text(
        metadata.read_text().replace("Requires-Dist: click", "Requires-Dist: not-there>=3\nRequires-Dist: click<1,", 1)
    )
    command = [sys.executable, LAUNCHER, "status", "out"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert found.returncode == cli.USAGE
    assert "lacks not-there>=3, click" in found.stderr


class Standin(BaseHTTPRequestHandler):
    """Answers as something that is not a Ray dashboard, or one that is not well.

    answers: by the start of the path; a list has one for each time.
    """

    answers: ClassVar[dict[str, tuple[int, str] | list[tuple[int, str]]]] = {}

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = (answer for path, answer in self.answers.items() if self.path.startswith(path))
        answer = next(found, (404, "not found"))
        status, text = answer.pop(0) if isinstance(answer, list) else answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    do_GET = do_PUT = do_POST = _answer


@pytest.fixture
def standin() -> Iterator[str]:
    Standin.answers = {"/api/version": (200, json.dumps({"ray_version": "2.60.0", "version": "4"}))}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Standin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        ("/api/version", (401, "Unauthorized"), "wants a token; set RAY_AUTH_MODE=token"),
        ("/api/version", (403, "Forbidden"), "has another token than yours"),
        ("/api/version", (404, "no such page"), "refused: Version check returned 404"),
        ("/api/version", (200, "<html>welcome</html>"), "is no Ray dashboard"),
        ("/api/version", (200, '{"status": "ok"}'), "is no Ray dashboard"),
        ("/api/version", (200, '{"ray_version": "1.8.0"}'), "Ray version 1.8.0 is running on the cluster"),
        (
            "/api/packages",
            (413, "Request Entity Too Large"),
            "install dr2e on the cluster's machines and give",
        ),
        ("/api/packages", (500, "Traceback\nValueError: Package size (9MiB) exceeds the maximum size"), "--installed"),
        ("/api/packages", (502, "Bad Gateway"), "is away: Bad Gateway"),
    ],
)
def test_a_dashboard_that_is_none_or_not_well_is_one_line(standin, path, answer, told):
    Standin.answers = {**Standin.answers, path: answer}
    said = submitted("--address", standin, "restore", *BUCKETS)
    assert told in said and standin in said and "\n" not in said


def test_a_cluster_that_takes_no_jobs_yet_is_waited_for(standin):
    answers = [
        (500, "No available agent to submit job, please try again later."),
        (200, '{"job_id": "one", "submission_id": "one"}'),
    ]
    Standin.answers |= {"/api/packages": (200, ""), "/api/jobs/": answers}
    told = submitted("--address", standin, "--no-wait", "--id", "one", "restore", *BUCKETS, code=0)
    assert "one\n" in told.splitlines(keepends=True) and "job one is at work" in told and not answers


def test_nobody_at_the_address_is_one_line():
    (port,) = free_ports(1)
    told = submitted("--address", f"http://127.0.0.1:{port}", "restore", *BUCKETS)
    assert "no Ray dashboard answers at" in told and "8265" in told


def test_a_job_is_given_up_when_its_dashboard_stays_away(standin):
    Standin.answers["/api/jobs/one"] = (503, "Service Unavailable")
    warnings: list[str] = []
    with pytest.raises(JobLost, match="what became of job one is unknown, follow it again later"):
        follow(Cluster(standin), "one", print, warnings.append, patience=3)
    assert warnings == [f"the dashboard at {standin} does not answer; trying again"]
    del Standin.answers["/api/jobs/one"]
    with pytest.raises(JobLost, match="does not know job one"):
        follow(Cluster(standin), "one", print, print)


@pytest.mark.parametrize(
    ("status", "driver", "message", "code", "told"),
    [
        ("SUCCEEDED", 0, "", 0, "job one is complete"),
        ("STOPPED", None, "", 143, "was stopped"),
        ("FAILED", 1, "", 1, "ended with exit code 1 (it failed)"),
        ("FAILED", 2, "", 2, "wrong usage or configuration"),
        ("FAILED", 3, "", 3, "complete, with quarantined photos"),
        ("FAILED", 127, "", 127, "--python"),
        ("FAILED", -9, "", 137, "ended by SIGKILL"),
        ("FAILED", 143, "", 143, "ended by SIGTERM"),
        ("FAILED", None, "runtime_env setup failed: no room\nand more", 1, "runtime_env setup failed: no room; submit"),
        ("FAILED", None, None, 1, "Ray does not say why"),
    ],
)
def test_how_a_job_ended_is_a_code_and_a_line(status, driver, message, code, told):
    details = JobDetails(
        type="SUBMISSION", submission_id="one", status=status, entrypoint="", message=message, driver_exit_code=driver
    )
    end = ending(details)
    assert (end.status, end.code) == (status, code) and told in end.told


def test_a_job_has_the_code_and_the_answer_and_no_secrets(site: Site, photographs: list[bytes], tmp_path: Path):
    members = [("p0.jpg", photographs[0]), ("p1.jpg", b"this is no photograph")]
    place, inputs = site.upload(tmp_path, {"photos.tar": members})
    (tmp_path / "run.yaml").write_text(f"# {CANARY} is for nobody\nlimits:\n  max_pixels: 4000000\n")
    relay = Relay(int(site.cluster.url.rpartition(":")[2]))
    process = site.start(
        "--id", "one", *restoring(place), "--config", str(tmp_path / "run.yaml"), url=f"http://127.0.0.1:{relay.port}"
    )
    said = wait_for_work(process)
    relay.cut()
    time.sleep(4)
    relay.mend()
    rest, err = process.communicate(timeout=240)
    out = said + rest
    assert process.returncode == cli.QUARANTINED, out + err
    assert relay.cuts > 0
    assert "dr2e: job one ended with exit code 3 (complete, with quarantined photos)" in err

    verdict = check(site.stored(place), inputs)
    assert verdict.kept and verdict.fates == {"restored": 1, "rejected": 1}
    answer, log = site.run("--json", "--follow", "one", code=cli.QUARANTINED)
    assert log == out  # nothing was lost or said twice while the way was cut
    assert json.loads(answer)["exit_code"] == cli.QUARANTINED
    listed = json.loads(site.run("--json", "--list")[0])
    assert {"job": "one", "status": "FAILED", "dr2e": "restore", "output": f"{place}/out"} in [
        {name: row[name] for name in ("job", "status", "dr2e", "output")} for row in listed
    ]

    settings = json.loads(site.stored(place)["run.json"])["config"]
    assert settings["limits"]["max_pixels"] == 4_000_000  # of the file, which travelled
    copies = {path.read_text() for path in site.sightings.iterdir()} - {str(site.tree / "pipeline" / "stages.py")}
    session = site.cluster.session
    assert all(Path(copy).is_relative_to(session) for copy in copies)
    assert len(copies) == 2  # the head's, with the driver, and the machine's, with the workers
    for secret in (CANARY, site.token, site.s3.secret):
        assert not found_below(session, secret)  # logs, packages as they were unpacked


@pytest.mark.slow  # a minute on an idle machine
def test_following_may_end_and_so_may_a_job(site: Site, photographs: list[bytes], tmp_path: Path):
    place, _ = site.upload(tmp_path, {"photos.tar": [("p0.jpg", photographs[0])]})
    process = site.start("--id", "ended", *restoring(place))
    wait_for_work(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == cli.SIGNALLED + signal.SIGINT
    assert "job ended goes on" in err and "--follow ended" in err and "--stop ended" in err
    _, err = site.run("--stop", "ended")
    assert "job ended was stopped" in err
    out, _ = site.run("--follow", "ended", code=cli.SIGNALLED + signal.SIGTERM)
    assert "dr2e: interrupted; the same command continues" in out  # it had the time to say so
    _, err = site.run("--id", "ended", "verify", f"{place}/out", code=cli.USAGE)
    assert "already exists" in err and err.count("\n") == 1


def test_what_a_cluster_refuses_is_one_line(site: Site):
    _, err = site.run(*restoring("s3://tests/nowhere"), token="0" * 32, code=cli.USAGE)
    assert "has another token than yours" in err and "RAY_AUTH_TOKEN" in err and err.count("\n") == 1
    _, err = site.run("--stop", "unknown", code=cli.USAGE)
    assert "knows no job unknown" in err


@pytest.mark.slow
def test_a_job_is_started_with_what_is_there(site: Site):
    _, err = site.run("--python", "no-python", "verify", "s3://tests/nowhere", code=127)
    assert "found no such program" in err and "--python" in err
    out, _ = site.run("--installed", "verify", "s3://tests/nowhere", code=cli.USAGE)
    assert "exec dr2e verify" in out and "no run was started here" in out


@pytest.mark.slow
def test_a_driver_is_killed_and_another_job_resumes(site: Site, photographs: list[bytes], tmp_path: Path):
    place, inputs = site.upload(tmp_path, {"photos.tar": [("p0.jpg", photographs[0])]})
    process = site.start("--id", "killed", *restoring(place))
    wait_for_work(process)
    drivers = [pid for pid in descendants(site.cluster.process.pid) if title(pid).startswith("python dr2e restore")]
    kill(*drivers)
    _, err = process.communicate(timeout=240)
    assert process.returncode == cli.SIGNALLED + signal.SIGKILL
    assert "the driver of job killed was ended by SIGKILL; submit the same command again to go on" in err
    site.run(*restoring(place))
    assert check(site.stored(place), inputs).kept


@pytest.mark.slow
def test_a_machine_dies_under_a_job_and_nothing_is_lost(tmp_path: Path, s3: S3, photographs: list[bytes]):
    with served(tmp_path, s3, machines=3) as site:
        shards = {f"photos-{n}.tar": [(f"p{n}{i}.jpg", photo) for i, photo in enumerate(photographs)] for n in range(3)}
        place, inputs = site.upload(tmp_path, shards)
        process = site.start(*(word for word in restoring(place) if "workers" not in word))
        output = Location(f"{place}/out", s3.options)
        while not output.entries("commits"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.5)
        kill(*descendants(site.cluster.raylets.pop()))
        command = [sys.executable, "-c", "from jobs.cli import main; main()", "status", output.url, "--json"]
        there = {**os.environ, **s3.environment, "PYTHONPATH": str(TREE)}
        seen = subprocess.run(command, env=there, capture_output=True, text=True, check=True)
        assert json.loads(seen.stdout)["counts"]["photos"] > 0
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, out + err
        assert "is complete" in err
        verdict = check(site.stored(place), inputs)
        assert verdict.kept and verdict.fates == {"restored": 15}, verdict
