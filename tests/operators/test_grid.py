from collections import Counter

import pytest

from operators.quality.grid import LAST_TAU, SCALES, grid_chains
from operators.restoration import cost


@pytest.mark.parametrize(("step", "stride"), [(1, 1), (1, 4), (2, 4), (3, 4), (4, 4), (20, 4)])
def test_every_pair_is_there_once(step: int, stride: int) -> None:
    found = Counter((chain.n, tau) for chain in grid_chains(128, step=step, stride=stride) for tau in chain.taus)
    wanted = {(n, tau) for n in SCALES for tau in range(0, LAST_TAU + 1, step)}
    assert set(found) == wanted and set(found.values()) == {1}


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_grid_costs_no_more_than_one_chain_through_every_step_per_scale(stride: int) -> None:
    def spent(chosen: int) -> dict[int, int]:
        of_scale: Counter[int] = Counter()
        for chain in grid_chains(128, step=1, stride=chosen):
            of_scale[chain.n] += cost(chain, 99, chosen)
        return dict(of_scale)

    one_chain = spent(1)
    assert one_chain == {1: 41, 2: 51, 4: 61, 8: 66, 16: 71}
    found = spent(stride)
    assert all(found[n] <= one_chain[n] for n in SCALES)


def test_scales_that_do_not_divide_the_face_are_left_out() -> None:
    assert {chain.n for chain in grid_chains(36, stride=1)} == {1, 2, 4}
