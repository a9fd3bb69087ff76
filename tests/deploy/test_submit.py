"""What the nightly CronJob does with the RayJob of last time; 'kubectl' is a script here."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "jobs" / "deployment" / "submit.sh"

# Knows one RayJob, whose state is in a file; deleting takes until it was asked for once more.
KUBECTL = """#!/bin/sh
echo "$*" >> calls
case "$1 $*" in
get*"-o name") if [ -e going ]; then rm going state; fi; if [ -e state ]; then echo rayjob/nightly; fi ;;
get*) if [ -e state ]; then printf 'found:%s' "$(cat state)"; fi ;;
delete*) touch going ;;
create*) if [ -e state ]; then exit 1; fi; printf Initializing > state ;;
esac
"""


def night(folder: Path, state: str | None) -> tuple[int, list[str]]:
    """The exit code, and kubectl's verbs, of a night that finds a RayJob in ``state`` (None: there is none)."""
    (folder / "kubectl").write_text(KUBECTL)
    (folder / "kubectl").chmod(0o755)
    (folder / "sleep").write_text("#!/bin/sh\n")
    (folder / "sleep").chmod(0o755)
    if state is not None:
        (folder / "state").write_text(state)
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    ended = subprocess.run(["sh", SCRIPT, "nightly", "rayjob.yaml"], cwd=folder, env=environment, capture_output=True)
    return ended.returncode, [line.split()[0] for line in (folder / "calls").read_text().splitlines()]


def test_the_first_night_creates_it(tmp_path: Path) -> None:
    assert night(tmp_path, None) == (0, ["get", "create"])


@pytest.mark.parametrize("state", ["Complete", "Failed", "ValidationFailed"])
def test_a_finished_one_makes_room(state: str, tmp_path: Path) -> None:
    code, verbs = night(tmp_path, state)
    assert (code, verbs[0], verbs[1], verbs[-1]) == (0, "get", "delete", "create")
    assert (tmp_path / "state").read_text() == "Initializing"


@pytest.mark.parametrize("state", ["", "Initializing", "Running", "Retrying", "Suspended"])
def test_one_that_still_works_is_left_alone(state: str, tmp_path: Path) -> None:
    assert night(tmp_path, state) == (0, ["get"])


def test_a_refusal_of_kubernetes_fails_the_job(tmp_path: Path) -> None:
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "kubectl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ended = subprocess.run(["sh", SCRIPT, "nightly", "rayjob.yaml"], cwd=tmp_path, env=environment)
    assert ended.returncode != 0
