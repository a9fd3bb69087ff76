"""As much of PromQL as it takes to say which metrics and labels an expression names; anything unknown is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FUNCTIONS = {"rate", "increase", "histogram_quantile", "sum", "max", "min", "avg", "count"}
_GROUPINGS = {"by", "without", "on", "ignoring"}
_OPERATORS = {"and", "or", "unless"}
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<range>\[[^\]]*\])
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/<>=(){},])
    )""",
    re.VERBOSE,
)
_RANGE = re.compile(r"\[(\d+[smhd]|\$__rate_interval|\$__range)\]")


@dataclass(frozen=True)
class Named:
    metrics: frozenset[str]
    labels: frozenset[str]


def named(expression: str) -> Named:
    """The metrics and labels in an expression. Raises ValueError for what is none."""
    tokens = _tokens(expression)
    metrics, labels = set[str](), set[str]()
    place = depth = 0
    while place < len(tokens):
        kind, text = tokens[place]
        following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        depth += (text == "(") - (text == ")")
        if depth < 0:
            raise ValueError(f"a bracket too many: {expression}")
        if text == "{" or text in _GROUPINGS:
            end = next(i for i in range(place, len(tokens)) if tokens[i][1] == ("}" if text == "{" else ")"))
            labels |= {word for kind, word in tokens[place + 1 : end] if kind == "name"}
            place = end
        elif kind == "name" and following == "(":
            if text not in _FUNCTIONS:
                raise ValueError(f"{text} is no function: {expression}")
        elif kind == "name" and text not in _OPERATORS and following not in _GROUPINGS and text not in _FUNCTIONS:
            metrics.add(text)
        place += 1
    if depth or not metrics:
        raise ValueError(f"a bracket is open, or there is no metric: {expression}")
    return Named(frozenset(metrics), frozenset(labels))


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while place < len(expression.rstrip()):
        match = _TOKEN.match(expression, place)
        if match is None or (match["range"] and not _RANGE.fullmatch(match["range"])):
            raise ValueError(f"not PromQL at {place}: {expression}")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        place = match.end()
    return found
