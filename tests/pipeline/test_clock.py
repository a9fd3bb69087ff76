import pytest

from pipeline.clock import SharedClock


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_piece_alone_has_all_the_time() -> None:
    now = Now()
    with SharedClock(now).work() as seconds:
        now.seconds += 3
        assert seconds() == pytest.approx(3)
        now.seconds += 1
        assert seconds() == pytest.approx(4)


def test_pieces_at_the_same_time_share_it() -> None:
    now = Now()
    clock = SharedClock(now)
    with clock.work() as first:
        now.seconds += 2
        with clock.work() as second:
            now.seconds += 4
            assert (first(), second()) == (pytest.approx(4), pytest.approx(2))
        now.seconds += 1
        assert first() == pytest.approx(5)


def test_idle_time_is_nobodys() -> None:
    now = Now()
    clock = SharedClock(now)
    with clock.work():
        now.seconds += 1
    now.seconds += 50
    with clock.work() as seconds:
        now.seconds += 2
        assert seconds() == pytest.approx(2)


def test_a_piece_that_raises_takes_no_more() -> None:
    now = Now()
    clock = SharedClock(now)
    with pytest.raises(RuntimeError), clock.work():
        raise RuntimeError
    with clock.work() as seconds:
        now.seconds += 2
        assert seconds() == pytest.approx(2)
