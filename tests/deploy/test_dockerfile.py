"""deploy/Dockerfile: rules for images, and its steps as far as they can be taken without Docker."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobs.deployment.shape import RAY_IMAGE

ROOT = Path(__file__).parents[2]
TARGET = "/home/ray/dr2e"


def steps() -> list[tuple[str, str]]:
    """The instructions with their arguments, in order."""
    lines = (line for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def of(instruction: str) -> list[str]:
    return [rest for name, rest in steps() if name == instruction]


def copies() -> list[tuple[str, str]]:
    """(source in the repository, destination in the image) of every COPY."""
    found = []
    for rest in of("COPY"):
        *sources, destination = [word for word in shlex.split(rest) if not word.startswith("--")]
        found += [(source, destination) for source in sources]
    return found


def pins() -> dict[str, str]:
    lines = (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, version in lines}


def test_it_builds_on_the_pinned_ray() -> None:
    assert of("FROM") == [RAY_IMAGE]
    assert RAY_IMAGE.startswith(f"rayproject/ray:{pins()['ray']}-py311")


def test_it_fetches_nothing_but_pinned_packages() -> None:
    assert not of("ADD")
    for line in of("RUN"):
        assert not re.search(r"\b(curl|wget|sudo|apt|apt-get|git|conda)\b", line)
        if "pip install" in line:
            assert f"-c {TARGET}/constraints.txt" in line
            assert "--no-cache-dir" in line


def test_it_runs_as_somebody_without_rights_from_the_first_step() -> None:
    names = [name for name, _ in steps()]
    assert names[:2] == ["FROM", "USER"]
    assert of("USER") == ["1000:100"]  # Kubernetes' runAsNonRoot needs a number
    assert all("--chown=1000:100" in rest for rest in of("COPY"))


def test_nothing_is_handed_in_that_could_be_secret() -> None:
    assert not of("ARG") and not of("ENV")


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"  # all but what is named
    named = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    sources = [source for source, _ in copies()]
    assert all((ROOT / source).exists() for source in sources)
    assert named == set(sources)


def copy_small(source: str, destination: str) -> None:
    """As shutil.copy2, but for weights, of which only the name matters and compressing takes long."""
    if source.endswith(".safetensors"):
        Path(destination).touch()
    else:
        shutil.copy2(source, destination)


def replay(folder: Path) -> Path:
    """Take the COPY steps; returns what is /home/ray/dr2e in the image."""
    for source, destination in copies():
        place = folder / Path(destination).relative_to(TARGET)
        if source.endswith("/"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, place, ignore=ignore, copy_function=copy_small)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)
    return folder


def test_what_is_copied_can_be_built(tmp_path: Path) -> None:
    source = replay(tmp_path / "dr2e")
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"  # as pip does
    made = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("dr2e-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind in ("py", "safetensors", "html", "css", "sh"):
        for package in ("operators", "pipeline", "jobs"):
            assert {str(file.relative_to(ROOT)) for file in (ROOT / package).rglob(f"*.{kind}")} <= names


def test_every_package_it_needs_is_pinned_to_a_version_that_fits() -> None:
    pinned, waiting, seen = pins(), ["dr2e"], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{name} needs {requirement.name}, which is not in constraints.txt"
            assert requirement.specifier.contains(version, prereleases=True), f"{name} needs {text}, not {version}"
            waiting.append(canonicalize_name(requirement.name))
    assert {"ray", "torch", "pyiqa"} <= seen


@pytest.mark.slow  # asks the package index
def test_the_pinned_packages_can_be_had_together() -> None:
    (line,) = [line for line in of("RUN") if "pip install" in line]
    words = [word.replace(TARGET, str(ROOT)) for word in shlex.split(line)][1:]
    resolved = subprocess.run(
        [sys.executable, *words, "--dry-run", "--ignore-installed"], capture_output=True, text=True
    )
    assert resolved.returncode == 0, resolved.stderr
