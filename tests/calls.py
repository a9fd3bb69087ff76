"""What tests have other processes do: importable there, as the tests' own modules are not."""

from __future__ import annotations

import os
import threading
import time


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def a_lock(_: object) -> object:
    """Something that no pickle holds."""
    return threading.Lock()
