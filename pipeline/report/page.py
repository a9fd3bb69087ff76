"""Facts to one HTML file that stands alone: no script, no second file, no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.facts import Facts, galleries
from pipeline.report.template import environment, text


def render(facts: Facts) -> str:
    """The page, UTF-8 text. Every value from the data is escaped by the template engine."""
    template = environment().from_string(text("page.html"))
    photos, busy = facts.photos.total(), sum(facts.seconds.values())
    return template.render(
        facts=facts,
        css=Markup(text("page.css")),
        figures=_figures(facts),
        galleries=list(galleries(facts)),
        charts=_charts(facts),
        photos=photos,
        faces=facts.faces.total(),
        restored=facts.faces["restored"],
        stages=[(stage, seconds) for stage, seconds in facts.seconds.most_common() if seconds > 0],
        busy=busy,
        models=_models(facts.run),
        remover="SwinIR" if "remover" in facts.run.get("models", {}) else "DR2",
        settings=_settings(facts.run),
    )


def _figures(facts: Facts) -> list[tuple[str, str, bool]]:
    photos = facts.photos
    return [
        ("photos", f"{photos.total():,}", False),
        ("restored", f"{photos['restored']:,}", False),
        ("without a face", f"{photos['no_face']:,}", False),
        ("quarantined", f"{photos['rejected']:,}", photos["rejected"] > 0),
        ("faces", f"{facts.faces.total():,}", False),
        ("kept as they were", f"{facts.faces['kept']:,}", False),
    ]


def _charts(facts: Facts) -> list[tuple[str, Markup]]:
    scores = charts.distributions(
        facts.before.edges, facts.before.counts, facts.after.counts, axis="NIQE, lower is better"
    )
    return [
        ("NIQE", scores),
        ("Low-pass scale N", _counted(facts.n, axis="N, faces restored by DR2")),
        ("Output step τ", _counted(facts.tau, axis="τ of 1000, faces restored by DR2")),
        ("Faces per photo", _counted(facts.faces_per_photo, axis="faces, photos that were read")),
    ]


def _counted(counter: Counter[int], *, axis: str) -> Markup:
    values = sorted(counter)
    return charts.bars([str(value) for value in values], [counter[value] for value in values], axis=axis)


def _models(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"role": role, **model} for role, model in run.get("models", {}).items()]


def _settings(run: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for title, part in (("Settings", "config"), ("Versions", "versions")):
        rows = list(_flat(run.get(part, {})))
        if rows:
            yield title, rows


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
