"""Small SVG charts that need no script: bars over labels, and two distributions over one axis."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT = 280, 190
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 22, 38
"""View box and margins in user units. A chart is shown at about one CSS pixel per unit on any screen."""

_PLOT_WIDTH, _PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_FLOOR = TOP + _PLOT_HEIGHT


def bars(labels: Sequence[str], counts: Sequence[int], *, axis: str) -> Markup:
    """Upright bars, one per label, in the order given, each with its count on top.

    axis: what the labels are. An empty chart says so.
    """
    if not sum(counts):
        return _svg(_note("nothing to show"), axis)
    step = _PLOT_WIDTH / len(labels)
    width = min(step * 0.72, 44)
    every = -(-len(labels) // 9)  # at most 9 labels fit without touching
    parts = [_floor()]
    for place, (label, count) in enumerate(zip(labels, counts, strict=True)):
        middle = LEFT + step * (place + 0.5)
        height = _PLOT_HEIGHT * count / max(counts)
        parts.append(
            Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                middle - width / 2, _FLOOR - height, width, height
            )
        )
        if len(labels) <= 9 and count:
            parts.append(_text(middle, _FLOOR - height - 5, f"{count:,}", "value"))
        if place % every == 0:
            parts.append(_text(middle, _FLOOR + 14, label, "tick"))
    return _svg(Markup("").join(parts), axis)


def distributions(edges: Sequence[float], before: Sequence[int], after: Sequence[int], *, axis: str) -> Markup:
    """Two histograms over shared bins: `before` as a filled shape, `after` as a line.

    edges: one more than there are counts, rising. Bins empty in both at either end are cut off.
    """
    filled = [place for place, pair in enumerate(zip(before, after, strict=True)) if any(pair)]
    if not filled:
        return _svg(_note("nothing to show"), axis)
    first, last = max(filled[0] - 1, 0), min(filled[-1] + 2, len(before))
    edges, before, after = edges[first : last + 1], before[first:last], after[first:last]
    highest = max(*before, *after)

    def x(value: float) -> float:
        return LEFT + _PLOT_WIDTH * (value - edges[0]) / (edges[-1] - edges[0])

    def outline(counts: Sequence[int]) -> str:
        path = f"M{x(edges[0]):.1f} {_FLOOR}"
        for left, right, count in zip(edges, edges[1:], counts, strict=False):
            y = _FLOOR - _PLOT_HEIGHT * count / highest
            path += f"L{x(left):.1f} {y:.1f}L{x(right):.1f} {y:.1f}"
        return path + f"L{x(edges[-1]):.1f} {_FLOOR}"

    parts = [
        _floor(),
        Markup('<path class="before" d="{}Z"/>').format(outline(before)),
        Markup('<path class="after" d="{}"/>').format(outline(after)),
        _legend(),
    ]
    stride = -(-(len(edges) - 1) // 8)
    parts += [_text(x(edge), _FLOOR + 14, f"{edge:g}", "tick") for edge in edges[::stride]]
    return _svg(Markup("").join(parts), axis)


def _legend() -> Markup:
    return Markup(
        '<rect class="before" x="{x}" y="4" width="12" height="9"/>'
        '<text class="key" x="{x1}" y="12">before</text>'
        '<path class="after" d="M{x2} 9h14"/><text class="key" x="{x3}" y="12">after</text>'
    ).format(x=WIDTH - 132, x1=WIDTH - 116, x2=WIDTH - 66, x3=WIDTH - 48)


def _svg(body: Markup, axis: str) -> Markup:
    label = _text(WIDTH / 2, HEIGHT - 6, axis, "axis")
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        WIDTH, HEIGHT, axis, body, label
    )


def _floor() -> Markup:
    return Markup('<path class="floor" d="M{} {}h{}"/>').format(LEFT, _FLOOR, _PLOT_WIDTH)


def _note(text: str) -> Markup:
    return _text(WIDTH / 2, HEIGHT / 2, text, "axis")


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x, y, escape(text))
