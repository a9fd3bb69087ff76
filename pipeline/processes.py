"""`parallel.ordered` for work that is Python's own: by several processes, each with several threads.

Not `multiprocessing.Pool`, whose processes run the caller's main module again and wait for ever for one that died, and
not Ray, whose start takes longer than most of what is done here.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

from pipeline.parallel import ordered

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MODULE = "pipeline.processes"
_MOST = 8  # by themselves: a process that verifies units of 24 MB takes 290 MB


class ProcessError(Exception):
    """A process ended before its work. One line with the remedy."""


def processors() -> int:
    """Processes worth starting: as many as the cores this process may use, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST)


def spread(
    function: Callable[[_Item], _Result], items: Iterable[_Item], processes: int, threads: int
) -> Iterator[_Result]:
    """`ordered_in_processes`, or threads of this process where one process is enough: no other is started for that."""
    if processes > 1:
        return ordered_in_processes(function, items, processes, threads)
    return ordered(function, items, threads)


def ordered_in_processes(
    function: Callable[[_Item], _Result], items: Iterable[_Item], processes: int, threads: int
) -> Iterator[_Result]:
    """`function` of each item, by `threads` threads in each of `processes` processes, in the order of the items.

    function, items and results travel as pickles, the function once per process; it must be importable there. At most
    twice as many calls as there are threads are begun and not taken. What a call raises, or the reason why its result
    cannot travel, is raised in its place. When the caller stops early, the processes end.

    Raises ProcessError when a process dies, as by the kernel's killer when memory is full.
    """
    with _workers(function, processes, threads) as workers:
        yield from _in_order(items, workers, 2 * threads)


@dataclass
class _Worker:
    """A process, the connection to it, and how many items it was given and has not answered."""

    process: subprocess.Popen[bytes]
    connection: Connection
    pending: int = 0

    def died(self) -> ProcessError:
        code = self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        hint = "; memory may have been full: run it with fewer processes" if code == -signal.SIGKILL else ""
        return ProcessError(f"a helping process {how}{hint}")


@contextmanager
def _workers(function: object, processes: int, threads: int) -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        for _ in range(processes):
            ours, theirs = Pipe()
            # -P: else a module in the current folder would run instead of the one it is called like.
            command = [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
            theirs.close()  # or its end would not be noticed
            workers.append(_Worker(process, ours))
        for worker in workers:
            _send(worker, (function, threads))
        yield workers
    finally:
        for worker in workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.wait()


def _in_order(items: Iterable[_Item], workers: Sequence[_Worker], depth: int) -> Iterator[_Result]:
    """depth: items a process has at most."""
    by_connection = {worker.connection: worker for worker in workers}
    found: dict[int, tuple[bool, object]] = {}
    begun = taken = 0
    source = iter(items)
    exhausted = False
    while True:
        while not exhausted and begun - taken < depth * len(workers):
            worker = min(workers, key=lambda worker: worker.pending)
            if worker.pending >= depth:
                break
            try:
                item = next(source)
            except StopIteration:
                exhausted = True
                break
            _send(worker, (begun, item))
            worker.pending += 1
            begun += 1
        if taken == begun:
            return
        while taken not in found:
            for ready in wait(list(by_connection)):
                assert isinstance(ready, Connection)
                worker = by_connection[ready]
                try:
                    number, went_well, result = ready.recv()
                except (EOFError, OSError):
                    raise worker.died() from None
                worker.pending -= 1
                found[number] = went_well, result
        went_well, result = found.pop(taken)
        taken += 1
        if not went_well:
            assert isinstance(result, BaseException)
            raise result
        yield result  # type: ignore[misc]  # what the function returned there


def _send(worker: _Worker, message: object) -> None:
    try:
        worker.connection.send(message)
    except OSError:
        raise worker.died() from None


def _serve(connection: Connection) -> None:
    """A process's whole life: get the function, then items until the other end closes."""
    function, threads = connection.recv()
    queue: SimpleQueue[tuple[int, object]] = SimpleQueue()
    sending = Lock()

    def work() -> None:
        while True:
            number, item = queue.get()
            try:
                answer = pickle.dumps((number, True, function(item)))
            except BaseException as error:
                answer = pickle.dumps((number, False, _portable(error)))
            with sending, suppress(OSError):  # nobody listens any more: this process is about to end
                connection.send_bytes(answer)

    for _ in range(threads):
        Thread(target=work, daemon=True).start()
    while True:
        queue.put(connection.recv())


def _portable(error: BaseException) -> BaseException:
    """The error, or its words where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; who started us decides when to stop
    with suppress(EOFError, OSError):
        _serve(Connection(int(sys.argv[1])))
