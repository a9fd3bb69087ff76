"""What travels with a job: the code of dr2e, its weights, and the settings. The same content is the same bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml

import jobs
import operators
import pipeline
from jobs.submission.arguments import SETTINGS

LAUNCHER = "dr2e"
"""What Python starts there; see `launch.py`."""

# Nothing else in these folders is ours, and what lies there by chance may be secret.
_KINDS = {".py", ".html", ".css", ".csv", ".md", ".sh", ".safetensors"}
_PACKED = {".safetensors"}  # which does not become smaller


def write_package(to: Path, settings: Mapping[str, Any] | None, code: bool = True) -> None:
    """Write the package, a zip, to `to`. settings: for SETTINGS. code: of dr2e, else it is installed there.

    Ray unpacks it into the working folder of the job and of all its workers, and puts that before everything else that
    Python would import: of a dr2e that is installed there nothing is used, not even its version.
    """
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in sorted(_members(settings, code)):
            _add(archive, name, content)


def _members(settings: Mapping[str, Any] | None, code: bool) -> Iterator[tuple[str, bytes]]:
    if settings is not None:
        yield SETTINGS, yaml.safe_dump(dict(settings), allow_unicode=True).encode()
    if not code:
        return
    for package in (operators, pipeline, jobs):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder.parent)
            if path.suffix in _KINDS and not any(part.startswith(".") for part in name.parts):
                yield name.as_posix(), path.read_bytes()
    yield LAUNCHER, (Path(__file__).parent / "launch.py").read_bytes()
    installed = distribution("dr2e")  # says which version this is, and what it needs
    about = installed.read_text("METADATA") or installed.read_text("PKG-INFO")  # the latter beside a checkout
    yield f"dr2e-{installed.version}.dist-info/METADATA", (about or "").encode()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name)  # of 1980, so that the bytes depend on the content alone
    member.external_attr = 0o644 << 16
    member.compress_type = zipfile.ZIP_STORED if Path(name).suffix in _PACKED else zipfile.ZIP_DEFLATED
    archive.writestr(member, content)
