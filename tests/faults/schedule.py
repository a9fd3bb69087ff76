"""What befalls a run: a function of a seed.

Moments are told by what the run asks of storage ("before the third PUT of an object", "after the commit record was
created and before anybody heard of it"), because those are the moments a commit protocol has to survive, and because a
clock would name another moment on every machine. Faults at random depend on the seed and the request's number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from faults.proxy import Fault, Phase, Request

Point = Literal["list", "read", "object", "record"]
Victim = Literal["driver", "Detect", "Restore", "Enhance", "reader", "committer", "machine", "S3 server", "rival"]

VICTIMS: tuple[Victim, ...] = (
    "driver",
    "Detect",
    "Restore",
    "Enhance",
    "reader",
    "committer",
    "machine",
    "S3 server",
    "rival",
)
"""Who is killed; a "rival" is no death but a second driver on the same output, started at that moment."""

STAGES: tuple[Victim, ...] = ("Detect", "Restore", "Enhance")


@dataclass(frozen=True)
class Strike:
    """Kill `victim` at the `nth` request of a kind, `delay` seconds later; a victim not alive yet is waited for.

    place: which machine, where there are several.
    """

    victim: Victim
    point: Point
    nth: int
    phase: Phase
    delay: float
    place: int

    @property
    def may_miss(self) -> bool:
        """Whether its victim may be gone by then: the whole run after a delay, a stage when units are committed.

        All else is there when it is struck: every run makes more requests of each kind than `nth`, whoever made one is
        alive, and a stage is not done when the input has only been read.
        """
        return self.delay > 0 or (self.victim in STAGES and self.point in ("object", "record"))

    def __str__(self) -> str:
        return f"{self.victim} {self.phase} {self.point} {self.nth}" + (f" +{self.delay:.1f} s" if self.delay else "")


@dataclass(frozen=True)
class Hit:
    """A fault for the `nth` request of a kind."""

    fault: Fault
    point: Point
    nth: int


@dataclass(frozen=True)
class Schedule:
    """seed: it all follows from. rates: probability of a fault, for every request."""

    seed: int
    strikes: tuple[Strike, ...]
    hits: tuple[Hit, ...]
    rates: dict[Fault, float]

    def by_chance(self, request: Request) -> Fault | None:
        """The fault that this request meets at random."""
        draw = random.Random(f"{self.seed}/{request.number}").random()
        for fault, rate in self.rates.items():
            if draw < rate:
                return fault if _fits(fault, request) else None
            draw -= rate
        return None


def schedule(seed: int) -> Schedule:
    """The schedule of a seed. Nine seeds in a row have every victim once as the first."""
    draw = random.Random(seed)
    victims = [VICTIMS[seed % len(VICTIMS)], *draw.choices(VICTIMS, k=draw.choice([0, 0, 1, 1, 2]))]
    hits = tuple(_hit(draw) for _ in range(draw.choice([1, 2, 3])))
    rates = {fault: draw.choice([0.0, 0.0, 0.02, 0.06]) for fault in Fault}
    return Schedule(seed, tuple(_strike(draw, victim) for victim in victims), hits, rates)


def point_of(request: Request, prefix: str) -> Point | None:
    """What a request is about, of an output below `prefix` ("/bucket/out/") and an input beside it."""
    path = request.path
    if request.method == "PUT" and path.startswith(f"{prefix}commits/"):
        return "record"
    if request.method in ("PUT", "POST") and path.startswith(
        tuple(f"{prefix}{k}/" for k in ("shards", "manifest", "rejects"))
    ):
        return "object"
    if request.method == "GET" and path.endswith(".tar") and not path.startswith(prefix):
        return "read"
    if request.method == "GET" and "list-type" in request.query:
        return "list"
    return None


def _strike(draw: random.Random, victim: Victim) -> Strike:
    # Where a committer, a driver or storage dies matters to the request; where a stage dies matters to its work.
    points: dict[str, tuple[Point, ...]] = {
        "committer": ("object", "record"),
        "reader": ("read",),
        "Detect": ("read",),
        "Restore": ("read", "read", "object"),
    }
    point = draw.choice(points.get(victim, ("read", "object", "object", "record", "record")))
    most = {"read": 2, "object": 9, "record": 4}[point]
    phase: Phase = draw.choice(["before", "after"])
    delay = draw.choice([0.0, 0.0, draw.uniform(0.0, 1.5)])
    if victim in ("committer", "reader"):
        delay = 0.0
    if victim == "rival" and draw.random() < 0.7:  # then it collides with the first: see Storm.hold
        return Strike(victim, draw.choice(["object", "record"]), draw.randint(1, 3), "before", 0.0, 0)
    return Strike(victim, point, draw.randint(1, most), phase, delay, draw.randrange(8))


def _hit(draw: random.Random) -> Hit:
    point: Point = draw.choice(["list", "read", "object", "record", "record"])
    fitting = {
        "list": [Fault.SLOW_DOWN, Fault.ERROR, Fault.RESET, Fault.LATENCY, Fault.TRUNCATED],
        "read": [Fault.SLOW_DOWN, Fault.RESET, Fault.LATENCY, Fault.TRUNCATED],
        "object": [Fault.SLOW_DOWN, Fault.ERROR, Fault.RESET, Fault.LATENCY, Fault.LOST_ACK],
        "record": [Fault.SLOW_DOWN, Fault.RESET, Fault.LATENCY, Fault.LOST_ACK, Fault.LOST_ACK],
    }
    return Hit(
        draw.choice(fitting[point]), point, draw.randint(1, {"list": 3, "read": 3, "object": 9, "record": 4}[point])
    )


def _fits(fault: Fault, request: Request) -> bool:
    if fault is Fault.TRUNCATED:
        return request.method == "GET"
    if fault is Fault.LOST_ACK:
        return request.method in ("PUT", "DELETE")
    return True
