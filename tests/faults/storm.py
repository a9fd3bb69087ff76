"""One run under one schedule: started again until it says it is complete, as a scheduler would, then checked."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from faults.checker import Objects, check
from faults.drivers import FINISHED, Driver, start
from faults.history import broken_rules, writes
from faults.outcome import Outcome
from faults.processes import clients, kill, title
from faults.proxy import Entry, Fault, Phase, Request
from faults.sabotage import SOURCE
from faults.schedule import Schedule, Strike, point_of
from faults.site import Site

MOST_DRIVERS = 8

HELD_SECONDS = 90.0
"""How long a request is held back for a rival: less than the patience of SETTINGS with an answer."""

_TITLES = {
    "Detect": "MapBatches(Detect",
    "Restore": "MapBatches(Restore",
    "Enhance": "MapBatches(Enhance",
    "reader": "ray::Read",
    "committer": "ray::MapBatches(Commit",
}

_STORED = ("commits/", "shards/", "manifest/", "rejects/")


class Storm:
    """A schedule taking its course over a run."""

    def __init__(
        self,
        site: Site,
        schedule: Schedule,
        tree: Path = SOURCE,
        most_drivers: int = MOST_DRIVERS,
        settings: Sequence[str] = (),
    ) -> None:
        """tree: the source to run. most_drivers: how often it is started before it counts as stuck. settings: of the
        run, on top of the site's."""
        self.site, self.schedule, self.tree, self.most_drivers = site, schedule, tree, most_drivers
        self.name = site.output()
        self.command = site.command(self.name, settings)
        self.outcome = Outcome(schedule)
        self.prefix = f"/{site.s3.bucket}/{self.name}/"
        self.seen: Counter[str] = Counter()
        self.due: list[Strike] = list(schedule.strikes)
        self.waiting: list[Strike] = []  # struck, but nobody was there yet
        self.timers: list[threading.Timer] = []  # of strikes to come, and of storage to come back
        self.chores: list[Callable[[], None]] = []  # for the main thread, where Ray insists to be started
        self.met: dict[tuple[str, Phase], threading.Event] = {}  # what requests of a unit are held back for
        self.drivers: list[Driver] = []  # the present one, and its rivals
        self.all_drivers: list[Driver] = []
        self.over = self.restarting = False
        self.lock = threading.RLock()  # for what is above; never held for long
        self.striking = threading.Lock()  # held during a strike, which may take seconds

    def run(self, quiet: Objects | None = None) -> Outcome:
        """To its end; quiet: the objects of an undisturbed run."""
        began = time.monotonic()
        self.site.proxy.clear()
        self.site.proxy.watcher = self.watch
        while self.outcome.drivers < self.most_drivers:
            with self.lock:
                self.drivers = [self.start()]
            self.outcome.code = self.wait()
            if self.outcome.code in FINISHED:
                break
        self.subside()
        journal = list(self.site.proxy.journal)
        self.site.proxy.clear()
        objects = self.site.objects(self.name)
        self.outcome.stored = sum(name.startswith(_STORED) for name in objects)
        self.outcome.verdict = check(objects, self.site.inputs, quiet)
        self.outcome.rules = broken_rules(writes(journal, self.prefix))
        self.outcome.broken += [text for driver in self.all_drivers if (text := driver.complaint())]
        self.outcome.redone = _attempts(journal, self.prefix) - sum(name.startswith("commits/") for name in objects)
        self.outcome.faults = Counter(str(entry.fault) for entry in journal if entry.fault)
        self.outcome.seconds = time.monotonic() - began
        self.outcome.log = "".join(driver.log.read_text(errors="replace") for driver in self.all_drivers)
        return self.outcome

    def start(self) -> Driver:
        self.outcome.drivers += 1
        environment = {**os.environ, **self.site.machines.environment, "PYTHONPATH": str(self.tree)}
        log = self.site.folder / f"{self.name}-{self.outcome.drivers}.log"
        driver = start(self.command, self.tree, environment, log)
        self.all_drivers.append(driver)
        return driver

    def wait(self, seconds: float = 600) -> int:
        """Until all drivers have ended; the best exit code among them. One that never ends is killed, and tells so."""
        deadline = time.monotonic() + seconds
        while self.alive():
            time.sleep(0.05)
            with self.lock:
                waiting, self.waiting = self.waiting, []
            for strike in waiting:
                self.strike(strike)
            self.do_chores()
            if time.monotonic() > deadline:
                self.outcome.broken.append(f"a driver hung for {seconds:.0f} s")
                for driver in self.alive():
                    driver.kill()
        codes = [driver.process.wait() for driver in self.drivers]
        return next((code for code in codes if code in FINISHED), codes[0])

    def alive(self) -> list[Driver]:
        with self.lock:
            return [driver for driver in self.drivers if driver.alive]

    def do_chores(self) -> None:
        with self.lock:
            chores, self.chores = self.chores, []
        for chore in chores:
            chore()

    def subside(self) -> None:
        """Leave the site as it was: no strike comes any more, storage answers, every machine has its successor."""
        with self.striking, self.lock:
            self.over = True
            held = list(self.met.values())
        for event in held:
            event.set()
        for timer in self.timers:
            if timer.function == self.strike:
                timer.cancel()
        for timer in self.timers:
            timer.join()
        self.do_chores()

    def later(self, seconds: float, function: Callable[..., None], *arguments: object) -> None:
        timer = threading.Timer(seconds, function, arguments)
        with self.lock:
            self.timers.append(timer)
            timer.start()

    def watch(self, request: Request, phase: Phase) -> Fault | None:
        """What happens to a request; called by the proxy, which holds the request back meanwhile."""
        try:
            return self.befall(request, phase)
        except Exception as error:  # the proxy's thread would take it to its grave
            self.failed(error)
            return None

    def failed(self, error: Exception) -> None:
        self.outcome.broken.append(f"the harness failed: {type(error).__name__}: {error}")

    def befall(self, request: Request, phase: Phase) -> Fault | None:
        point = point_of(request, self.prefix)
        with self.lock:
            if self.over:
                return None
            if point and phase == "before":
                self.seen[point] += 1
            count = self.seen[point] if point else 0
            if point == "record" and (met := self.met.get((_unit(request), phase))):
                met.set()
            now = [s for s in self.due if s.point == point and s.phase == phase and count >= s.nth]
            self.due = [s for s in self.due if s not in now]
            for strike in now:
                if strike.delay:
                    self.later(strike.delay, self.strike, strike)
        for strike in now:
            if not strike.delay:
                self.strike(strike, request.port)
            if strike.victim == "rival" and phase == "before" and point in ("object", "record"):
                self.hold(request, "after" if point == "object" else "before")
        if phase == "after":
            return None
        for hit in self.schedule.hits:
            if hit.point == point and hit.nth == count:
                return hit.fault
        return self.schedule.by_chance(request)

    def hold(self, request: Request, phase: Phase) -> None:
        """Hold a request back until a rival wants to create the record of the same unit, or after it has done so."""
        with self.lock:
            met = self.met.setdefault((_unit(request), phase), threading.Event())
        if met.wait(HELD_SECONDS) and not self.over:
            self.outcome.collisions += 1

    def strike(self, strike: Strike, port: int = 0) -> None:
        """Kill, or wait until there is somebody to kill; between two drivers there is nobody. port: of the client
        whose request it is."""
        try:
            with self.striking:
                if self.over:
                    return
                hit = bool(self.alive()) and self.hit(strike, port)
                with self.lock:
                    (self.outcome.hits if hit else self.waiting).append(strike)
        except Exception as error:  # so would the timer's
            self.failed(error)

    def hit(self, strike: Strike, port: int) -> bool:
        match strike.victim:
            case "driver":
                alive = self.alive()[:1]
                for driver in alive:
                    driver.kill()
                return bool(alive)
            case "rival":
                with self.lock:
                    alive = self.alive()
                    if alive:
                        self.drivers.append(self.start())
                return bool(alive)
            case "machine":
                return self.power_failure(strike.place)
            case "S3 server":
                return self.storage_failure(1.0 + strike.place / 4)
            case _:
                # Of several committers or readers it is to be the one that is in the middle of this request.
                at_it = [pid for pid in clients(port) if _TITLES[strike.victim] in title(pid)] if port else []
                kill(*at_it)
                return bool(at_it) or self.site.machines.kill_worker(_TITLES[strike.victim])

    def power_failure(self, place: int) -> bool:
        killed = self.site.machines.kill_machine(place)
        if killed:
            with self.lock:
                self.chores.append(self.site.machines.add)
        return killed

    def storage_failure(self, seconds: float) -> bool:
        if self.restarting:  # there is nobody to kill
            return False
        self.restarting = True
        self.site.server.kill()
        self.later(seconds, self.restart_storage)
        return True

    def restart_storage(self) -> None:
        try:
            self.site.server.start()
            self.restarting = False
        except Exception as error:
            self.failed(error)


def _unit(request: Request) -> str:
    """The unit that an object or a record belongs to, by its name."""
    base = request.path.rpartition("/")[2]
    return base.removesuffix(".json") if base.endswith(".json") else base.rpartition("-")[0]


def _attempts(journal: Sequence[Entry], prefix: str) -> int:
    """How many attempts at units put objects: their names carry the attempt."""
    pattern = re.compile(re.escape(prefix) + r"(?:shards|manifest|rejects)/(.+)\.(?:tar|parquet)")
    found = (pattern.fullmatch(entry.request.path) for entry in journal if entry.request.method in ("PUT", "POST"))
    return len({match[1] for match in found if match})
