"""Finding processes by what Ray calls them, and killing them without a word."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, itself included."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has just ended
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(folder.name))
    found = [pid]
    for each in found:  # grows while it is walked
        found += children[each]
    return found


def clients(port: int) -> list[int]:
    """The processes that hold the connection from local port `port`, as files: the one that made it, as a rule."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended, or closed a file
            if folder.name.isdigit() and any(os.readlink(file) in inodes for file in (folder / "fd").iterdir()):
                found.append(int(folder.name))
    return found


def title(pid: int) -> str:
    """What the process calls itself; Ray's workers say what they are doing. "" when it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill(*pids: int) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
