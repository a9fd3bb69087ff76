"""What the pages for people share: how they are filled in, and how numbers and times are written."""

from __future__ import annotations

import base64
from datetime import datetime
from importlib.resources import files

from jinja2 import Environment, StrictUndefined


def text(name: str) -> str:
    """A file of this package."""
    return (files("pipeline.report") / name).read_text("utf-8")


def environment() -> Environment:
    """Escapes every value from the data, and refuses names that nobody gave."""
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "base64": lambda data: base64.b64encode(data).decode("ascii"),
        "count_of": _count_of,
        "duration": _duration,
        "number": lambda value: f"{value:,}",
        "rate": lambda value: f"{value:#.3g}",
        "share": lambda part, whole: f"{100 * part / whole:.1f} %" if whole else "-",
        "slug": lambda title: title.lower().replace(" ", "-"),
        "when": _when,
    }
    return made


def _count_of(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _when(stamp: str) -> str:
    return datetime.fromisoformat(stamp).strftime("%-d %B %Y, %H:%M %Z").strip()
