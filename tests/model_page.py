"""The table of docs/models.md, made from the catalogue."""

from __future__ import annotations

from pathlib import Path

from pipeline.store.catalogue import CATALOGUE, Published

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
START, END = "<!-- models: python -m model_page -->\n", "<!-- end -->\n"


def renewed(page: str) -> str:
    """`page` with the table of today."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}"


def table() -> str:
    """A row per model."""
    head = "| name | role | architecture | licence | bytes | SHA-256 | from |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(map(_row, CATALOGUE))


def _row(model: Published) -> str:
    size, sha256 = f"{model.size:,}" if model.size else "?", f"`{model.sha256[:12]}…`" if model.sha256 else "?"
    where = f"[publisher]({model.page})" + ("" if model.can_be_pulled else ", by hand")
    note = f"; {model.note}" if model.note else ""
    cells = [
        f"`{model.name}`",
        model.role,
        model.architecture,
        model.licence + ("*" if model.noncommercial else ""),
        size,
        sha256,
        where + note,
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
