"""Disks that are full: told from other trouble, and said so that somebody can mend it."""

from __future__ import annotations

import errno
import socket
import tempfile


def is_full(error: BaseException) -> bool:
    """Whether a disk, or what a user may have of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def explained(error: OSError) -> str:
    """One line of the error of a file in the temporary folder; where and what to do when its disk is full."""
    if not is_full(error):
        return " ".join(str(error).split())
    return (
        f"no space left in {tempfile.gettempdir()} of {socket.gethostname()}; free some there, or set TMPDIR to a "
        "folder with room for a few shards; finished units stay"
    )
