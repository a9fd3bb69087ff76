"""What a figure was measured on."""

from __future__ import annotations

import os
import platform


def cpu() -> str:
    """The processor's name and the number of its cores."""
    name = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    return f"{name or platform.processor()}, {os.cpu_count()} cores"


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []


def load() -> str:
    """What the machine had to do in the last minute, in processors: this benchmark, and whatever else there was."""
    return f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} processors"
