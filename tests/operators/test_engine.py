"""What the engine promises: a face's result is its own, to the bit, and no slot stands empty while a face waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor

from operators.dr2.engine import CPU_BATCH, Engine, Trajectory
from operators.dr2.noise import FaceNoise
from operators.dr2.prior import Prior, PriorSpec
from operators.dr2.schedule import Schedule

SIZE = 32
STEPS = Schedule.linear().respaced(100)
FACES = torch.tanh(torch.randn(12, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)))


@pytest.fixture(scope="module", params=["fixed_small", "learned_range"])
def prior(request: pytest.FixtureRequest) -> Prior:
    torch.manual_seed(3)
    learned = request.param == "learned_range"
    network = UNet2DModel(
        sample_size=SIZE, in_channels=3, out_channels=6 if learned else 3, block_out_channels=(16, 32),
        layers_per_block=1, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=8, attention_head_dim=8,
    )  # fmt: skip
    spec = PriorSpec(SIZE, variance=request.param, max_timestep=700)
    return Prior(network, spec, Schedule.linear(), name="tiny", licence="", fingerprint="", precision="float32")


class Walk:
    """A search along given trajectories, which keeps what it is handed. stop: the output it has enough with."""

    def __init__(self, face: int, ways: Iterable[tuple[int, tuple[int, ...]]], stop: int = -1) -> None:
        noise = FaceNoise(7, f"photo-{face}", 0)
        self.ahead = deque(Trajectory(FACES[face], noise, n, steps, frozenset(steps)) for n, steps in ways)
        self.stop, self.found = stop, list[tuple[int, Tensor]]()

    def next(self) -> Trajectory | None:
        return self.ahead.popleft() if self.ahead else None

    def take(self, step: int, x0: Tensor) -> bool:
        self.found.append((step, x0))
        return step != self.stop


def walks() -> list[Walk]:
    """Twelve faces on twelve ways: other scales, starts, strides and lengths, some more than one."""
    return [
        Walk(
            face,
            [(2 ** (face % 4), tuple(range(20 + face, 12, -1 - face % 3)))] + [(4, (9 + face, 5, 3))] * (face % 3),
            stop=14 if face == 6 else -1,
        )
        for face in range(12)
    ]


def same(ours: list[Walk], theirs: list[Walk]) -> bool:
    return all(
        [step for step, _ in one.found] == [step for step, _ in other.found]
        and all(torch.equal(a, b) for (_, a), (_, b) in zip(one.found, other.found, strict=True))
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def alone(prior: Prior) -> list[Walk]:
    """Every face by itself, in an engine of its own."""
    result = walks()
    for walk in result:
        Engine(prior, STEPS, slots=1).run([walk])
    return result


@pytest.mark.parametrize("slots", [2, 3, CPU_BATCH, 7, 16])
def test_a_face_is_the_same_to_the_bit_whatever_is_in_the_other_slots(
    prior: Prior, alone: list[Walk], slots: int
) -> None:
    mixed = walks()
    order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(slots)).tolist()
    Engine(prior, STEPS, slots).run([mixed[i] for i in order])
    assert same(mixed, alone)
    assert len({walk.found[0][1].sum().item() for walk in mixed}) == len(mixed), "faces that cannot be told apart"


def test_calls_from_several_threads_share_the_slots(prior: Prior, alone: list[Walk]) -> None:
    mixed, engine = walks(), Engine(prior, STEPS, slots=8)
    threads = [threading.Thread(target=engine.run, args=(mixed[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(mixed, alone)


def test_batches_are_full_while_faces_wait(prior: Prior) -> None:
    engine = Engine(prior, STEPS, slots=CPU_BATCH)
    engine.run([Walk(i % 12, [(4, tuple(range(8 + i % 5, 3, -1)))]) for i in range(40)])
    assert engine.evaluations == sum(5 + i % 5 for i in range(40))
    padding = engine.rows - engine.evaluations
    assert padding <= (CPU_BATCH - 1) * 9, "only the last faces may leave slots empty, for as long as their way is"


def test_a_face_that_has_enough_leaves(prior: Prior) -> None:
    engine, walk = Engine(prior, STEPS), Walk(0, [(2, (12, 11, 10, 9)), (4, (8, 7))], stop=11)
    engine.run([walk])
    assert [step for step, _ in walk.found] == [12, 11, 8, 7]
    assert engine.evaluations == 4


class Broken(Walk):
    def take(self, step: int, x0: Tensor) -> bool:
        raise ArithmeticError("no score")


def test_what_breaks_one_call_leaves_the_others_alone(prior: Prior, alone: list[Walk]) -> None:
    mixed, engine = walks(), Engine(prior, STEPS, slots=4)
    errors: list[BaseException] = []

    def fail() -> None:
        try:
            engine.run([Broken(0, [(4, (12, 11))]), Walk(1, [(4, tuple(range(60, 3, -1)))])])
        except ArithmeticError as error:
            errors.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    engine.run(mixed)
    thread.join()
    assert [str(error) for error in errors] == ["no score"]
    assert same(mixed, alone)
    again = walks()[:2]
    engine.run(again)  # the slots of the broken call are free again
    assert same(again, alone[:2])


def test_nothing_to_do_is_done(prior: Prior) -> None:
    Engine(prior, STEPS).run([])
    Engine(prior, STEPS).run([Walk(0, [])])


@pytest.mark.parametrize(
    ("steps", "outputs"), [((), ()), ((3, 3), (3,)), ((3, 4), (4,)), ((4, 3), (4,)), ((4, 3), (3, 2))]
)
def test_impossible_trajectories_are_refused(steps: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="falling steps"):
        Trajectory(FACES[0], FaceNoise(0, "a", 0), 4, steps, frozenset(outputs))


@pytest.mark.parametrize(
    ("face", "steps", "message"),
    [
        (FACES[0], (100, 4), "tau <= omega < 100"),
        (FACES[0], (80, 4), "trained below timestep 700"),
        (FACES[0, :, :16, :16], (8, 4), "need a face of"),
    ],
)
def test_what_the_prior_cannot_do_is_refused(prior: Prior, face: Tensor, steps: tuple[int, ...], message: str) -> None:
    walk = Walk(0, [])
    walk.ahead.append(Trajectory(face, FaceNoise(0, "a", 0), 4, steps, frozenset(steps)))
    with pytest.raises(ValueError, match=message):
        Engine(prior, STEPS).run([walk])


def test_a_scale_that_does_not_divide_the_side_is_its_calls_own_error(prior: Prior, alone: list[Walk]) -> None:
    engine, mixed = Engine(prior, STEPS), walks()[:2]
    with pytest.raises(ValueError, match="must divide"):
        engine.run([Walk(0, [(3, (8, 4))])])
    engine.run(mixed)
    assert same(mixed, alone[:2])


def test_an_engine_without_slots_is_refused(prior: Prior) -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        Engine(prior, STEPS, slots=0)


def test_a_move_between_neighbours_is_the_published_posterior() -> None:
    move = STEPS.move(40, 39)
    alpha_bar, before, beta = STEPS.alpha_bar[40], STEPS.alpha_bar[39], STEPS.betas[40]
    assert move.x0 == pytest.approx(beta * before**0.5 / (1 - alpha_bar), rel=1e-9)
    assert move.xt == pytest.approx((1 - before) * (1 - beta) ** 0.5 / (1 - alpha_bar), rel=1e-9)
    with pytest.raises(ValueError, match="goes down"):
        STEPS.move(4, 4)
