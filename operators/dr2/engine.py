"""DR2's sampling (Algorithm 1 of the paper) for many faces at once, each at a step and a low-pass scale of its own.

The engine has a fixed number of slots. A face takes one, walks its trajectory there step by step,

    x0_hat = network(x_i, i)
    x_j    = mean and deviation of q(x_j | x_i, x0_hat), and fresh noise
    x_j    <- Phi_N(y_j) + (I - Phi_N)(x_j),    y_j ~ q(y_j | y)                (Eq. 9)

and leaves it to the next one that waits, so the network's batch stays full whatever each face needs. The network only
ever sees batches of one shape, padded when few faces are left: libraries choose the order of their sums by the shape,
so with one shape a face's result is the same to the bit whatever is in the other slots and however many there are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.noise import Noise, draws
from operators.dr2.prior import Prior, diffuse
from operators.dr2.recorded import to_device
from operators.dr2.schedule import Schedule

CPU_BATCH, GPU_BATCH = 4, 16
"""Faces per evaluation of the network. More gain nothing: with the built-in prior on a CPU, and with the paper's U-Net
on an H200, where 16 in one CUDA graph reached the share of the peak that 64 did."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One way of one face through DR2.

    Attributes:
        face: y, (3, S, S) float32 in [-1, 1].
        noise: the face's draws.
        n: low-pass scale N.
        steps: the steps of the engine's schedule it visits, falling from omega; any stride.
        outputs: those of them whose x0_hat is wanted; the last step among them.
    """

    face: Tensor
    noise: Noise
    n: int
    steps: tuple[int, ...]
    outputs: frozenset[int]

    def __post_init__(self) -> None:
        falling = all(later < earlier for earlier, later in pairwise(self.steps))
        if not self.steps or not falling or not self.outputs <= set(self.steps) or self.steps[-1] not in self.outputs:
            raise ValueError(
                f"a trajectory needs falling steps and outputs among them, the last too; "
                f"got steps {self.steps} and outputs {sorted(self.outputs)}"
            )


class Search(Protocol):
    """A face that looks for its result: it asks for one trajectory after the other and is handed what comes of it."""

    def next(self) -> Trajectory | None:
        """The trajectory to run now; None when the search is over. Asked when a slot is free."""
        ...

    def take(self, step: int, x0: Tensor) -> bool:
        """x0_hat of an output step, (3, S, S) float32 in [-1, 1] on the CPU. False ends the trajectory here."""
        ...


@dataclass(eq=False)
class _Call:
    """One call of `Engine.run`: the searches that want a slot, how many are not over, whom to tell of each step, and
    what went wrong."""

    waiting: deque[Search]
    unfinished: int
    on_step: Callable[[], None] | None
    error: BaseException | None = None


@dataclass(eq=False)
class _Slot:
    """A face on its way: `place` is where on its trajectory it is, `moved` when it came there."""

    call: _Call
    search: Search
    trajectory: Trajectory
    place: int = 0
    moved: int = 0

    @property
    def step(self) -> int:
        return self.trajectory.steps[self.place]

    @property
    def next_step(self) -> int:
        return self.trajectory.steps[self.place + 1]

    @property
    def at_the_end(self) -> bool:
        return self.place == len(self.trajectory.steps) - 1


@dataclass(eq=False)
class _Flight:
    """A batch that the device evaluates or has evaluated.

    places, slots: the faces, of which padding repeats the last. rows: `places` with the padding, on the device.
    outputs: which of them want their x0_hat, which `found` holds on the CPU once `landed`.
    """

    places: list[int]
    slots: list[_Slot]
    rows: Tensor
    x0: Tensor
    fraction: Tensor | None
    outputs: list[int]
    found: Tensor
    landed: torch.cuda.Event | None


class Engine:
    """Fixed slots, each a face on its way.

    With twice as many slots as a batch has faces, a GPU evaluates one batch while the outputs of the other are looked
    at.

    Several threads may call `run` at once: their faces share the slots, so that the last faces of one unit and the
    first of the next fill one batch.

    evaluations: faces the network saw so far; rows: of its batches, padding included, so that evaluations / rows is
    how full they were.
    """

    def __init__(self, prior: Prior, schedule: Schedule, slots: int = GPU_BATCH, batch: int | None = None) -> None:
        """schedule: the prior's, respaced. slots: faces on their way at once, at least 1; costs memory, not results.
        batch: faces per evaluation of the network, which decides roundings; the device's usual one if not given.
        """
        if slots < 1 or (batch is not None and batch < 1):
            raise ValueError(f"an engine needs at least one slot and one face a batch, not {slots} and {batch}")
        self.prior, self.schedule = prior, schedule
        self.batch = batch or (CPU_BATCH if prior.device.type == "cpu" else GPU_BATCH)
        self.evaluations = self.rows = 0
        prior.warm_up(self.batch)
        faces = (slots, 3, prior.size, prior.size)
        self._x = torch.zeros(faces, device=prior.device)
        self._y = torch.zeros(faces, device=prior.device)
        self._filters = torch.zeros((slots, prior.size, prior.size), device=prior.device)
        self._slots: list[_Slot | None] = [None] * slots
        self._flight: _Flight | None = None
        self._calls: list[_Call] = []
        self._turn = threading.Lock()  # whoever holds it moves everybody's faces

    def run(self, searches: Sequence[Search], on_step: Callable[[], None] | None = None) -> None:
        """Run searches to their end. Raises what the network or one of these searches raised; other calls go on.

        on_step: called after every evaluation of the network until then, by whichever thread did it.
        """
        call = _Call(deque(searches), len(searches), on_step)
        with self._turn:
            self._calls.append(call)
        try:
            while call.unfinished and call.error is None:
                with self._turn:
                    if call.unfinished and call.error is None:
                        self._advance()
        finally:
            with self._turn:
                self._calls.remove(call)
                self._slots = [None if slot is not None and slot.call is call else slot for slot in self._slots]
        if call.error is not None:
            raise call.error

    @torch.inference_mode()
    def _advance(self) -> None:
        """Fill the free slots, send the next batch off, then land the one before it."""
        self._fill()
        flight, self._flight = self._flight, None
        flying = set() if flight is None else set(flight.places)
        ready = [place for place, slot in enumerate(self._slots) if slot is not None and place not in flying]
        if ready and (len(ready) >= self.batch or flight is None):  # a batch is worth waiting for
            ready.sort(key=lambda place: self._slots[place].moved)  # type: ignore[union-attr]
            self._flight = self._launch(ready[: self.batch])
        if flight is not None:
            self._land(flight)

    def _fill(self) -> None:
        """Put faces that wait into free slots."""
        free = [place for place, slot in enumerate(self._slots) if slot is None]
        entering: list[tuple[int, _Slot]] = []
        for place in free:
            if (slot := self._next_waiting()) is None:
                break
            entering.append((place, slot))
        for start in range(0, len(entering), self.batch):
            self._enter(entering[start : start + self.batch])

    def _next_waiting(self) -> _Slot | None:
        """The next face that has a way to go, calls in their order."""
        for call in self._calls:
            while call.waiting and call.error is None:
                search = call.waiting.popleft()
                try:
                    trajectory = search.next()
                    if trajectory is not None:
                        self._check(trajectory)
                        return _Slot(call, search, trajectory)
                except Exception as error:
                    call.error = error
                call.unfinished -= 1
        return None

    def _check(self, trajectory: Trajectory) -> None:
        """Refuse here, where the call that asks is known, what would break a step of everybody's."""
        size, omega, tau = self.prior.size, trajectory.steps[0], trajectory.steps[-1]
        if trajectory.face.shape != (3, size, size):
            raise ValueError(f"need a face of (3, {size}, {size}), got {tuple(trajectory.face.shape)}")
        if tau < 0 or omega >= len(self.schedule):
            raise ValueError(f"need 0 <= tau <= omega < {len(self.schedule)}, got tau {tau} and omega {omega}")
        self.prior.check(int(self.schedule.timesteps[omega]))
        low_pass_matrix(size, trajectory.n)  # raises for an N that does not divide the side

    def _enter(self, entering: list[tuple[int, _Slot]]) -> None:
        """Put faces into free slots, at the start of their trajectories: x = y, diffused to omega."""
        places, slots = [place for place, _ in entering], [slot for _, slot in entering]
        y = self._sent(torch.stack([slot.trajectory.face for slot in slots]))
        filters = torch.stack([low_pass_matrix(self.prior.size, slot.trajectory.n) for slot in slots])
        alpha_bar = self._each([float(self.schedule.alpha_bar[slot.step]) for slot in slots])[: len(slots)]
        rows = self._sent(torch.tensor(places))
        self._y[rows], self._filters[rows] = y, self._sent(filters)
        self._x[rows] = diffuse(y, self._draws("start", slots)[: len(slots)], alpha_bar)
        for place, slot in entering:
            self._slots[place] = slot

    def _launch(self, places: list[int]) -> _Flight:
        """Send the faces at `places`, a batch at most, through the network, and what they put out on its way back."""
        slots = [slot for place in places if (slot := self._slots[place]) is not None]
        rows = self._sent(torch.tensor(_padded(places, self.batch)))
        timesteps = _padded([int(self.schedule.timesteps[slot.step]) for slot in slots], self.batch)
        estimate = self.prior.estimate(self._x[rows], torch.tensor(timesteps))
        x0 = estimate.x0.clamp(-1, 1)
        self.evaluations += len(places)
        self.rows += len(rows)
        outputs = [row for row, slot in enumerate(slots) if slot.step in slot.trajectory.outputs]
        found = x0[self._sent(torch.tensor(outputs, dtype=torch.int64))].to("cpu", non_blocking=True)
        landed = None
        if self.prior.device.type == "cuda":
            landed = torch.cuda.Event()
            landed.record()
        return _Flight(places, slots, rows, x0, estimate.fraction, outputs, found, landed)

    def _land(self, flight: _Flight) -> None:
        """Hand over what a batch put out, and move those of its faces that go on to their next step."""
        if flight.landed is not None:
            flight.landed.synchronize()
        found = dict(zip(flight.outputs, flight.found, strict=True))
        going = [
            row
            for row, (place, slot) in enumerate(zip(flight.places, flight.slots, strict=True))
            if self._slots[place] is slot and self._goes_on(place, slot, found.get(row))
        ]
        if going:
            self._move(flight, going)
        for call in self._calls:
            if call.on_step is not None:
                call.on_step()

    def _goes_on(self, place: int, slot: _Slot, x0: Tensor | None) -> bool:
        """Hand an output to its search. A search whose trajectory is over is asked for the next one first thing."""
        wants_more = True
        if x0 is not None:
            try:
                wants_more = slot.search.take(slot.step, x0)
            except Exception as error:
                slot.call.error = error
        if slot.call.error is None and wants_more and not slot.at_the_end:
            return True
        self._slots[place] = None
        if slot.call.error is None:
            slot.call.waiting.appendleft(slot.search)
        return False

    def _move(self, flight: _Flight, going: list[int]) -> None:
        """x at the next step of each face: a draw of q(x_j | x_i, x0_hat), its low frequencies replaced (Eq. 9).

        going: the rows of the batch that go on.
        """
        slots = [flight.slots[row] for row in going]
        batch = self._sent(torch.tensor(_padded(going, self.batch)))
        places, x0 = flight.rows[batch], flight.x0[batch]
        moves = [self.schedule.move(slot.step, slot.next_step) for slot in slots]
        x, y = self._x[places], self._y[places]
        small, large = self._each([move.log_variance for move in moves]), self._each([move.log_beta for move in moves])
        if flight.fraction is not None:
            fraction = flight.fraction[batch]
            log_variance = large * (fraction + 1) / 2 + small * (1 - fraction) / 2
        else:
            log_variance = large if self.prior.spec.variance == "fixed_large" else small
        x = self._each([move.x0 for move in moves]) * x0 + self._each([move.xt for move in moves]) * x
        x = x + (0.5 * log_variance).exp() * self._draws("reverse", slots)
        alpha_bar = self._each([float(self.schedule.alpha_bar[slot.next_step]) for slot in slots])
        y = diffuse(y, self._draws("refine", slots), alpha_bar)
        moved = x + low_pass(y - x, self._filters[places])
        self._x[places[: len(going)]] = moved[: len(going)]
        for slot in slots:
            slot.place += 1
            slot.moved = self.evaluations

    def _draws(self, purpose: str, slots: list[_Slot]) -> Tensor:
        """Each face's own noise, padded to a batch: "refine" is that of the step ahead, the others of the step the
        face is at."""
        steps = [slot.next_step if purpose == "refine" else slot.step for slot in slots]
        timesteps = [int(self.schedule.timesteps[step]) for step in steps]
        noise = [slot.trajectory.noise for slot in slots]
        shape = (3, self.prior.size, self.prior.size)
        return draws(_padded(noise, self.batch), purpose, _padded(timesteps, self.batch), shape, self.prior.device)

    def _each(self, values: list[float]) -> Tensor:
        """A number for each face, padded to a batch, (B, 1, 1, 1) float32."""
        return self._sent(torch.tensor(_padded(values, self.batch), dtype=torch.float32))[:, None, None, None]

    def _sent(self, values: Tensor) -> Tensor:
        return to_device(values, self.prior.device)


T = TypeVar("T")


def _padded(values: list[T], length: int) -> list[T]:
    """`values`, the last repeated until there are `length`."""
    return values + values[-1:] * (length - len(values))
