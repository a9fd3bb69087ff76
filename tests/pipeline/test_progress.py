"""The progress line."""

import io

from pipeline.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_plain_lines_and_the_last_state():
    out = io.StringIO()
    with Progress(1000, out) as progress:
        progress.phase("restoring")
        progress.add(photos=3, faces=5, rejected=1, share=250.0)
    line = out.getvalue().splitlines()[-1]
    assert line.startswith("restoring   25%  3 photos  5 faces  1 rejected")
    assert "elapsed" in line
    assert "left" in line
    assert "\r" not in out.getvalue()


def test_a_terminal_gets_one_line_that_is_rewritten():
    out = Terminal()
    with Progress(1000, out) as progress:
        progress.add(photos=1, faces=1, rejected=0, share=1000.0)
    assert out.getvalue().count("\n") == 1
    assert "\r\x1b[2K" in out.getvalue()
    assert "100%" in out.getvalue()


def test_nothing_to_do_is_done():
    assert "100%" in Progress(0, io.StringIO()).line()


def test_clock():
    assert (clock(5), clock(65.4), clock(3725)) == ("0:05", "1:05", "1:02:05")
