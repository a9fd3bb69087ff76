"""What tells runs apart in metrics and events, without their URLs."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 40  # characters of the readable part


def label_of(url: str) -> str:
    """A short name of the output at `url`: the last part of it, and eight digits of its SHA-256."""
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", url.rstrip("/").rpartition("/")[2])[:_LONGEST].strip("-.")
    return f"{stem or 'output'}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
