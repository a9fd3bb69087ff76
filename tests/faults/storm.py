"""One run under one schedule: started again until it says it is complete, as a scheduler would, then checked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import s3fs
from servers import SeaweedFS

from faults.checker import Objects, Verdict, check
from faults.history import broken_rules, writes
from faults.machines import Machines
from faults.processes import descendants, kill
from faults.proxy import Entry, Fault, Phase, Proxy, Request
from faults.sabotage import SOURCE
from faults.schedule import Schedule, Strike, point_of

COMPLETE, WITH_QUARANTINE = 0, 3
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


@dataclass
class Outcome:
    """What became of a schedule.

    kills: what was killed, in order; missed: strikes that found no victim. collisions: records that two attempts
    wanted to create at one time. faults: those of the proxy, by kind.
    drivers: how often the run was started; code: how the last ended. redone: attempts at units beyond one each.
    broken: rules of the protocol that were broken on the way, whatever the end looks like.
    """

    schedule: Schedule
    kills: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    collisions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    drivers: int = 0
    code: int | None = None
    redone: int = 0
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    broken: list[str] = field(default_factory=list)
    log: str = ""

    @property
    def passed(self) -> bool:
        return self.code in (COMPLETE, WITH_QUARANTINE) and self.verdict.kept and not self.broken


class Site:
    """Where storms take place: an S3 server behind a proxy, a cluster, and the input."""

    def __init__(self, folder: Path, inputs: Objects, settings: Sequence[str], machines: int = 2) -> None:
        """folder: for the server's data and logs. inputs: shards by name. settings: of the run, KEY=VALUE."""
        self.folder, self.inputs, self.settings = folder, inputs, settings
        (folder / "s3").mkdir()
        self.server = SeaweedFS(folder / "s3")
        self.s3 = self.server.start()
        self.proxy = Proxy(self.server.port)
        # What a run knows of storage, it knows from its environment.
        self.machines = Machines(machines, {**self.s3.environment, "AWS_ENDPOINT_URL": self.proxy.endpoint})
        self.storage = s3fs.S3FileSystem(**self.s3.options, use_listings_cache=False, skip_instance_cache=True)
        for name, data in inputs.items():
            self.storage.pipe_file(f"{self.s3.bucket}/input/{name}", data)
        self.count = 0

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.machines.close()
        self.proxy.close()
        self.server.kill()

    def output(self) -> str:
        """The name of an output nobody has used."""
        self.count += 1
        return f"out-{self.count:04d}"

    def objects(self, output: str) -> Objects:
        """All that is stored below an output."""
        root = f"{self.s3.bucket}/{output}/"
        return {path.removeprefix(root): self.storage.cat_file(path) for path in self.storage.find(root)}

    def command(self, output: str) -> list[str]:
        """The run's command line; the source is what the working directory holds."""
        urls = ["--input", f"s3://{self.s3.bucket}/input", "--output", f"s3://{self.s3.bucket}/{output}"]
        settings = [f"--set={setting}" for setting in self.settings]
        start = [sys.executable, "-c", "from jobs.cli import main; main()"]
        return [*start, "restore", *urls, *settings, "--address", self.machines.address]


class Storm:
    """A schedule taking its course over a run."""

    def __init__(self, site: Site, schedule: Schedule, tree: Path = SOURCE, most_drivers: int = MOST_DRIVERS) -> None:
        """tree: the source to run. most_drivers: how often it is started before it counts as stuck."""
        self.site, self.schedule, self.tree, self.most_drivers = site, schedule, tree, most_drivers
        self.name = site.output()
        self.outcome = Outcome(schedule)
        self.prefix = f"/{site.s3.bucket}/{self.name}/"
        self.seen: Counter[str] = Counter()
        self.due: list[Strike] = list(schedule.strikes)
        self.waiting: list[Strike] = []  # struck, but nobody was there yet
        self.chores: list[Callable[[], None]] = []  # for the main thread, where Ray insists to be started
        self.met: dict[tuple[str, Phase], threading.Event] = {}  # what requests of a unit are held back for
        self.drivers: list[subprocess.Popen[bytes]] = []
        self.lock = threading.Lock()
        self.log = site.folder / f"{self.name}.log"

    def run(self, quiet: Objects | None = None) -> Outcome:
        """To its end; quiet: the objects of an undisturbed run."""
        began = time.monotonic()
        self.site.proxy.clear()
        self.site.proxy.watcher = self.watch
        while self.outcome.drivers < self.most_drivers:
            self.drivers = [self.start()]
            self.outcome.code = self.wait()
            if self.outcome.code in (COMPLETE, WITH_QUARANTINE):
                break
        journal = list(self.site.proxy.journal)
        self.site.proxy.clear()
        objects = self.site.objects(self.name)
        self.outcome.verdict = check(objects, self.site.inputs, quiet)
        self.outcome.broken += broken_rules(writes(journal, self.prefix))
        self.outcome.redone = _attempts(journal, self.prefix) - sum(name.startswith("commits/") for name in objects)
        self.outcome.faults = Counter(str(entry.fault) for entry in journal if entry.fault)
        self.outcome.missed += [str(strike) for strike in [*self.due, *self.waiting]]
        self.outcome.seconds = time.monotonic() - began
        self.outcome.log = self.log.read_text(errors="replace")
        return self.outcome

    def start(self) -> subprocess.Popen[bytes]:
        self.outcome.drivers += 1
        environment = {**os.environ, **self.site.machines.environment, "PYTHONPATH": str(self.tree)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.site.command(self.name), cwd=self.tree, env=environment, stdout=log, stderr=log
            )

    def wait(self, seconds: float = 600) -> int:
        """Until all drivers have ended; the best exit code among them. One that never ends is killed, and tells so."""
        deadline = time.monotonic() + seconds
        while any(driver.poll() is None for driver in self.drivers):
            time.sleep(0.05)
            with self.lock:
                waiting, self.waiting = self.waiting, []
                chores, self.chores = self.chores, []
            for strike in waiting:
                self.strike(strike)
            for chore in chores:
                chore()
            if time.monotonic() > deadline:
                self.outcome.broken.append(f"a driver hung for {seconds:.0f} s")
                for driver in self.drivers:
                    kill(*descendants(driver.pid))
        codes = [driver.wait() for driver in self.drivers]
        return next((code for code in codes if code in (COMPLETE, WITH_QUARANTINE)), codes[0])

    def watch(self, request: Request, phase: Phase) -> Fault | None:
        """What happens to a request; called by the proxy, which holds the request back meanwhile."""
        point = point_of(request, self.prefix)
        with self.lock:
            if point and phase == "before":
                self.seen[point] += 1
            count = self.seen[point] if point else 0
            if point == "record" and (met := self.met.get((_unit(request), phase))):
                met.set()
            now = [s for s in self.due if s.point == point and s.phase == phase and count >= s.nth]
            self.due = [s for s in self.due if s not in now]
        for strike in now:
            if strike.delay:
                threading.Timer(strike.delay, self.strike, [strike]).start()
            else:
                self.strike(strike)
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
        met = self.met.setdefault((_unit(request), phase), threading.Event())
        if met.wait(HELD_SECONDS):
            self.outcome.collisions += 1

    def strike(self, strike: Strike) -> None:
        """Kill, or wait until there is somebody to kill."""
        if self.hit(strike):
            self.outcome.kills.append(str(strike))
        elif any(driver.poll() is None for driver in self.drivers):
            with self.lock:
                self.waiting.append(strike)
        else:
            self.outcome.missed.append(str(strike))

    def hit(self, strike: Strike) -> bool:
        match strike.victim:
            case "driver":
                alive = [driver for driver in self.drivers if driver.poll() is None]
                kill(*(pid for driver in alive[:1] for pid in descendants(driver.pid)))
                return bool(alive)
            case "rival":
                with self.lock:
                    self.drivers.append(self.start())
                return True
            case "machine":
                return self.power_failure(strike.place)
            case "S3 server":
                threading.Thread(target=self.restart_storage, args=[1.0 + strike.place / 4]).start()
                return True
            case _:
                return self.site.machines.kill_worker(_TITLES[strike.victim])

    def power_failure(self, place: int) -> bool:
        killed = self.site.machines.kill_machine(place)
        with self.lock:
            self.chores.append(self.site.machines.add)
        return killed

    def restart_storage(self, seconds: float) -> None:
        self.site.server.kill()
        time.sleep(seconds)
        self.site.server.start()


def _unit(request: Request) -> str:
    """The unit that an object or a record belongs to, by its name."""
    base = request.path.rpartition("/")[2]
    return base.removesuffix(".json") if base.endswith(".json") else base.rpartition("-")[0]


def _attempts(journal: Sequence[Entry], prefix: str) -> int:
    """How many attempts at units put objects: their names carry the attempt."""
    pattern = re.compile(re.escape(prefix) + r"(?:shards|manifest|rejects)/(.+)\.(?:tar|parquet)")
    found = (pattern.fullmatch(entry.request.path) for entry in journal if entry.request.method in ("PUT", "POST"))
    return len({match[1] for match in found if match})
