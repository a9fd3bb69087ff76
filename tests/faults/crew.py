"""Storms on several sites at once, each site in a process of its own: Ray knows one cluster per process."""

from __future__ import annotations

import multiprocessing
import queue
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults.calm import calm
from faults.checker import Objects
from faults.collection import SETTINGS, shards
from faults.mutations import EXPOSED_BY, IMPATIENT, MUTATIONS
from faults.outcome import Outcome
from faults.sabotage import sabotaged
from faults.schedule import schedule
from faults.site import Site
from faults.storm import Storm

Job = int | str
"""The seed of a schedule, or the name of a mutation."""


class SiteFailed(RuntimeError):
    """A site could not be set up, or died."""


def outcomes(jobs: Sequence[Job], sites: int) -> Iterator[Outcome]:
    """Those of all jobs, as they come. Raises SiteFailed."""
    context = multiprocessing.get_context("spawn")
    todo: Any = context.Queue()
    done: Any = context.Queue()
    for job in [*jobs, *[None] * sites]:
        todo.put(job)
    processes = [context.Process(target=_work, args=(todo, done), name=f"site {n}") for n in range(sites)]
    try:
        for process in processes:
            process.start()
        for _ in jobs:
            yield _next(done, processes)
    finally:
        with suppress(queue.Empty):  # after a failure: what nobody has begun is not begun
            while True:
                todo.get_nowait()
        for _ in processes:
            todo.put(None)
        for process in processes:
            if process.pid is not None:
                process.join()


def _next(done: Any, processes: Sequence[Any]) -> Outcome:
    while True:
        with suppress(queue.Empty):
            found = done.get(timeout=1)
            if isinstance(found, Outcome):
                return found
            raise SiteFailed(found)
        if not any(process.is_alive() for process in processes):
            raise SiteFailed("all sites are gone, with jobs left to do")


def _work(todo: Any, done: Any) -> None:
    """One site's life: the calm run, then jobs until there are no more."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="dr2e-faults-") as folder,
            Site(Path(folder), shards(), SETTINGS) as site,
        ):
            quiet = calm(site)
            while (job := todo.get()) is not None:
                done.put(_outcome(site, job, quiet))
    except Exception:
        done.put(traceback.format_exc())


def _outcome(site: Site, job: Job, quiet: Objects) -> Outcome:
    if isinstance(job, int):
        return Storm(site, schedule(job)).run(quiet)
    tree = sabotaged(site.folder / f"tree-{site.count}", [MUTATIONS[job]])
    outcome = Storm(site, EXPOSED_BY[job], tree, most_drivers=2, settings=IMPATIENT.get(job, ())).run(quiet)
    outcome.mutation = job
    return outcome
