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
from typing import Protocol

import torch
from torch import Tensor

from operators.dr2.lowpass import low_pass, low_pass_matrix
from operators.dr2.noise import Noise
from operators.dr2.prior import Prior, diffuse
from operators.dr2.schedule import Schedule

CPU_BATCH, GPU_BATCH = 4, 16
"""Faces per evaluation of the network. With the built-in prior more gain nothing on a CPU; on a GPU not measured."""


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
    """A face on its way: `place` is where on its trajectory it is."""

    call: _Call
    search: Search
    trajectory: Trajectory
    place: int = 0

    @property
    def step(self) -> int:
        return self.trajectory.steps[self.place]

    @property
    def next_step(self) -> int:
        return self.trajectory.steps[self.place + 1]

    @property
    def at_the_end(self) -> bool:
        return self.place == len(self.trajectory.steps) - 1


class Engine:
    """Fixed slots, each a face on its way.

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
        faces = (slots, 3, prior.size, prior.size)
        self._x = torch.zeros(faces, device=prior.device)
        self._y = torch.zeros(faces, device=prior.device)
        self._filters = torch.zeros((slots, prior.size, prior.size), device=prior.device)
        self._slots: list[_Slot | None] = [None] * slots
        self._calls: list[_Call] = []
        self._turn = threading.Lock()  # whoever holds it moves everybody's faces one step

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
        """Fill the free slots, then move every face one step."""
        for place, slot in enumerate(self._slots):
            if slot is None and (entering := self._next_waiting()) is not None:
                self._enter(place, entering)
        busy = [place for place, slot in enumerate(self._slots) if slot is not None]
        for start in range(0, len(busy), self.batch):
            self._step(busy[start : start + self.batch])

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

    def _enter(self, place: int, slot: _Slot) -> None:
        """Put a face into a slot, at the start of its trajectory: x = y, diffused to omega."""
        self._slots[place] = slot
        self._y[place] = slot.trajectory.face
        self._filters[place] = low_pass_matrix(self.prior.size, slot.trajectory.n)
        self._x[place] = diffuse(self._y[place], self._draws("start", [slot])[0], self.schedule.alpha_bar[slot.step])

    def _step(self, places: list[int]) -> None:
        """One evaluation of the network for the faces at `places`, a batch at most; hand over what it says, and move
        those that go on to their next step."""
        slots = [slot for place in places if (slot := self._slots[place]) is not None]
        rows = _padded(places, self.batch)
        timesteps = _padded([int(self.schedule.timesteps[slot.step]) for slot in slots], self.batch)
        estimate = self.prior.estimate(self._x[rows], torch.tensor(timesteps, device=self.prior.device))
        x0 = estimate.x0.clamp(-1, 1)
        self.evaluations += len(places)
        self.rows += len(rows)
        going = [row for row, slot in enumerate(slots) if self._goes_on(slot, x0[row])]
        for row in set(range(len(places))) - set(going):
            self._slots[places[row]] = None
        if going:
            batch = _padded(going, self.batch)
            fraction = None if estimate.fraction is None else estimate.fraction[batch]
            moved = self._refined([places[row] for row in batch], [slots[row] for row in batch], x0[batch], fraction)
            self._x[[places[row] for row in going]] = moved[: len(going)]
            for row in going:
                slots[row].place += 1
        for call in self._calls:
            if call.on_step is not None:
                call.on_step()

    def _goes_on(self, slot: _Slot, x0: Tensor) -> bool:
        """Hand an output to its search. A search whose trajectory is over is asked for the next one first thing."""
        wants_more = True
        if slot.step in slot.trajectory.outputs:
            try:
                wants_more = slot.search.take(slot.step, x0.cpu())
            except Exception as error:
                slot.call.error = error
                return False
        if wants_more and not slot.at_the_end:
            return True
        slot.call.waiting.appendleft(slot.search)
        return False

    def _refined(self, places: list[int], slots: list[_Slot], x0: Tensor, fraction: Tensor | None) -> Tensor:
        """x at the next step of each face: a draw of q(x_j | x_i, x0_hat), its low frequencies replaced (Eq. 9)."""
        moves = [self.schedule.move(slot.step, slot.next_step) for slot in slots]

        def each(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=self.prior.device)[:, None, None, None]

        x, y = self._x[places], self._y[places]
        small, large = each([move.log_variance for move in moves]), each([move.log_beta for move in moves])
        if fraction is not None:
            log_variance = large * (fraction + 1) / 2 + small * (1 - fraction) / 2
        else:
            log_variance = large if self.prior.spec.variance == "fixed_large" else small
        x = each([move.x0 for move in moves]) * x0 + each([move.xt for move in moves]) * x
        x = x + (0.5 * log_variance).exp() * self._draws("reverse", slots)
        alpha_bar = each([float(self.schedule.alpha_bar[slot.next_step]) for slot in slots])
        y = diffuse(y, self._draws("refine", slots), alpha_bar)
        return x + low_pass(y - x, self._filters[places])

    def _draws(self, purpose: str, slots: list[_Slot]) -> Tensor:
        """Each face's own noise: "refine" is that of the step ahead, the others of the step the face is at."""
        shape = tuple(self._x.shape[1:])
        steps = [slot.next_step if purpose == "refine" else slot.step for slot in slots]
        drawn: dict[_Slot, Tensor] = {}  # padding repeats a slot, which draws once
        for slot, step in zip(slots, steps, strict=True):
            if slot not in drawn:
                drawn[slot] = slot.trajectory.noise.draw(purpose, int(self.schedule.timesteps[step]), shape)
        return torch.stack([drawn[slot] for slot in slots]).to(self.prior.device)


def _padded(values: list[int], length: int) -> list[int]:
    """`values`, the last repeated until there are `length`."""
    return values + values[-1:] * (length - len(values))
