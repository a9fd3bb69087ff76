"""Ray for the time of a run: a quiet local cluster of our own, or somebody's cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

import ray

from pipeline.config import ConfigError, Resources
from pipeline.metrics.counting import forget
from pipeline.resources import Node

# Below this, actors and tasks of the five stages would wait for each other for ever.
LEAST_CPUS = 2


# Ray gives its own processes 30 s to start, too little for a machine that is busy or cold.
LOCAL_ATTEMPTS = 3


class ClusterError(RuntimeError):
    """Ray could not be started or reached; one line with the remedy."""


@contextmanager
def session(
    address: str | None = None, resources: Resources | None = None, cpus: int | None = None
) -> Iterator[list[Node]]:
    """Connect to Ray and yield its machines; a cluster that was started here ends with the block.

    address: of a cluster; else the environment's RAY_ADDRESS; else a cluster is started on this machine. A
    connection the caller has already is used and left as it is. resources: of the run, which may want metrics of a
    cluster that is started here. cpus: start one here all the same, and let it count on so many CPUs, whatever there
    are: for work that sleeps. Raises ClusterError, ConfigError.
    """
    if ray.is_initialized():
        yield nodes()
        return
    handlers, address = _handlers(), None if cpus else address or os.environ.get("RAY_ADDRESS")
    port = _metrics_port(resources or Resources(), address)
    with _only_our_words():
        try:
            _connect(address, port, cpus)
            _restore(handlers)  # Ray installs a SIGTERM handler of its own
            with _staying(0.0 if port is None or resources is None else resources.metrics_stay_seconds):
                yield nodes()
        finally:
            ray.shutdown()
            forget()
            _restore(handlers)


@contextmanager
def _staying(seconds: float) -> Iterator[None]:
    """Wait at the end, well or not. Who is interrupted does not wait, and who is while waiting has nothing to undo."""
    try:
        yield
    except Exception:
        _sleep(seconds)
        raise
    _sleep(seconds)


def _sleep(seconds: float) -> None:
    try:
        time.sleep(seconds)
    except BaseException as interrupt:
        if isinstance(interrupt, Exception):
            raise


def _metrics_port(resources: Resources, address: str | None) -> int | None:
    """The port for metrics of a Ray that is started here. Raises ConfigError when it cannot be had."""
    port = resources.metrics_port
    if port is None:
        return None
    if address is not None:
        raise ConfigError(
            f"resources.metrics_port: the Ray cluster at {address} has its own; start its machines with "
            "'ray start --metrics-export-port', and leave it out here"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(f"resources.metrics_port: {port}: {error.strerror}; name another") from None
    return port


def nodes() -> list[Node]:
    """The living machines that offer CPUs. Raises ClusterError when there is none."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    found = [Node(node["CPU"], node.get("GPU", 0.0)) for node in alive if node.get("CPU")]
    if not found:
        raise ClusterError("the Ray cluster has no machine that offers CPUs yet; start its workers first")
    return found


@contextmanager
def _only_our_words() -> Iterator[None]:
    """Keep what Ray says out of our lines and answers.

    What its C++ core prints to standard error and its driver to standard output (which may be read by a program) is
    dropped; its log files have it all, and we say ourselves what was lost. Python's sys.stderr goes on as before.
    """
    python, before = sys.stderr, os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        if _writes_to_descriptor_2(python):
            sys.stderr = os.fdopen(os.dup(before), "w", buffering=1, errors="backslashreplace")
        os.dup2(nowhere, 2)
        with open(os.devnull, "w") as dropped, redirect_stdout(dropped):
            yield
    finally:
        os.dup2(before, 2)
        if sys.stderr is not python:
            sys.stderr.close()
            sys.stderr = python
        os.close(before)
        os.close(nowhere)


def _writes_to_descriptor_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # a test's or a notebook's stand-in
        return False


def _connect(address: str | None, metrics_port: int | None, cpus: int | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # For a cluster of our own: Ray's 15 all but stops the workers of a machine that does anything else as well.
    os.environ.setdefault("RAY_worker_niceness", "5")
    # Likewise: a history of tasks for a dashboard that is not there, which grows with the collection.
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    # Likewise: a process that read or committed waits for its next unit. Ray ends it after a second where there are
    # more workers than CPUs, and another takes seconds of a CPU to start.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
    # Ray ends a worker when the machine's memory is almost full, and repeats what it did for ever: a photo that takes
    # more than there is would never be done with. As often as for any other death.
    os.environ.setdefault("RAY_task_oom_retries", "1")
    logging.getLogger("ray").setLevel(logging.ERROR)
    for attempt in reversed(range(1 if address else LOCAL_ATTEMPTS)):
        try:
            ray.init(
                address=address or "local",
                num_cpus=None if address else cpus or max(LEAST_CPUS, len(os.sched_getaffinity(0))),
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _metrics_export_port=metrics_port,
            )
            break
        except Exception as error:  # a start that took too long is a bare Exception
            ray.shutdown()
            if attempt == 0:
                where = f"the Ray cluster at {address}" if address else "Ray on this machine"
                reason = " ".join(str(error).split())[:300]
                raise ClusterError(f"cannot start or reach {where}: {reason}{_remedy(address)}") from error
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)  # its log file keeps everything


def _remedy(address: str | None) -> str:
    # 'ray start' asks for a token where the user has one; clients with an address send theirs only when told to.
    if address is None or "RAY_AUTH_MODE" in os.environ:
        return ""
    return "; check that it runs there, and set RAY_AUTH_MODE=token if it wants a token"


def _handlers() -> dict[signal.Signals, object]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _restore(handlers: dict[signal.Signals, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)  # type: ignore[arg-type]
