"""What a dying worker leaves behind: where it stood, in a file of its machine, for whoever asks why it died."""

from __future__ import annotations

import faulthandler
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.watchdog import WATCHDOG

_FRAME = re.compile(r'File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>.*)')
_FATAL = "Fatal Python error: "


@dataclass(frozen=True)
class LastWords:
    """stalled: the watchdog ended it. fault: what else did, as in "Segmentation fault"; "" when nobody knows.
    place: where it stood, for a person; "" when unknown."""

    stalled: bool = False
    fault: str = ""
    place: str = ""


def prepare() -> str:
    """From now on, what the watchdog and a fault in C say last goes to a file of this process; returns its path."""
    file, path = tempfile.mkstemp(prefix="dr2e-last-words-")
    WATCHDOG.file = file
    faulthandler.enable(file, all_threads=False)
    return path


def take(path: str) -> str:
    """What the file holds, which is then removed; "" when there is none."""
    text = ""
    with suppress(OSError):
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    with suppress(OSError):
        os.unlink(path)
    return text


def understand(text: str) -> LastWords:
    """What was written by `faulthandler`; of many threads the one that worked on a photo is what counts."""
    fault = next((line.removeprefix(_FATAL) for line in text.splitlines() if line.startswith(_FATAL)), "")
    return LastWords("Timeout (" in text and not fault, fault, _place(text))


def _place(text: str) -> str:
    threads = [thread for thread in re.split(r"\n\s*\n", text) if "pipeline/stages.py" in thread]
    innermost = _FRAME.search(threads[0]) if threads else None
    if innermost is None:
        return ""
    file = "/".join(Path(innermost["file"]).parts[-2:])
    return f"{innermost['function']} ({file}, line {innermost['line']})"
