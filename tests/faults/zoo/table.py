"""The table of docs/bad-input.md, made from the exhibits."""

from __future__ import annotations

from pathlib import Path

from faults.zoo.collection import exhibits
from faults.zoo.exhibit import PHOTOS, Exhibit

PAGE = Path(__file__).parents[3] / "docs" / "bad-input.md"
START, END = "<!-- table: python -m faults.zoo.table -->\n", "<!-- end -->\n"


def table() -> str:
    """The rows in Markdown: photos, then shards."""
    photos = [exhibit for exhibit in exhibits() if exhibit.shard == PHOTOS]
    shards = [exhibit for exhibit in exhibits() if exhibit.shard != PHOTOS]
    return f"\n## Photos\n\n{_table(photos)}\n## Shards and samples\n\n{_table(shards)}\n"


def renewed(page: str) -> str:
    """`page` with the table of today."""
    before, _, rest = page.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


def _table(rows: list[Exhibit]) -> str:
    head = "| what it is | status | code | what the message says |\n|---|---|---|---|\n"
    return head + "".join(row(exhibit) for exhibit in rows)


def row(exhibit: Exhibit) -> str:
    """The exhibit's line: all that becomes of its photos; good neighbours of a rejected one are not mentioned."""
    fates = list(dict.fromkeys(exhibit.fates.values()))
    told = [fate for fate in fates if fate.code] or fates
    says = "; ".join(dict.fromkeys(f"“{fate.says}”" for fate in told if fate.says))
    cells = [
        exhibit.what,
        ", ".join(dict.fromkeys(fate.status for fate in told)),
        ", ".join(dict.fromkeys(f"`{fate.code}`" for fate in told if fate.code)),
        "; ".join(part for part in (says, exhibit.note) if part),
    ]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
