"""The page of a round: what was kept, and what was better before or after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.curation.kept import Kept
from operators.training.weights import sha256_file
from pipeline.evaluation.compare import compare, document, markdown, verdict
from pipeline.storage import Location

BEFORE, AFTER = "before", "after"
PAGE, TABLE = "round.md", "round.json"


@dataclass(frozen=True)
class Round:
    """A finished round. markdown: its page; document: the content of its JSON."""

    markdown: str
    document: dict[str, Any]


def publish(place: Location, found: Kept, made: Mapping[str, int], enhancer: Path) -> Round:
    """Write the round's page and its JSON. Raises what `compare` raises."""
    differences = compare(place.child(BEFORE), place.child(AFTER))
    told = {
        "format": "dr2e.round/1",
        "photos": found.of_photos,
        "photos_kept": found.photos,
        "faces_kept": found.faces,
        "left_out": found.left_out,
        "pairs": dict(made),
        "enhancer": {"path": str(enhancer), "sha256": sha256_file(enhancer)},
        "verdict": verdict(differences),
        "differences": document(differences),
    }
    page = "\n".join(
        [
            "# A round of curation",
            "",
            f"{found.faces:,} restored faces of {found.photos:,} of {found.of_photos:,} photos were kept; "
            f"{made['train']:,} pairs were trained on.",
            "",
            "| photos left out | |",
            "| --- | --- |",
            *(f"| {code} | {count:,} |" for code, count in found.left_out.items()),
            "",
            "The enhancer before → after the round, on held-out faces (and the change ± its 95 % interval):",
            "",
            markdown(differences),
            "",
            verdict(differences),
            "",
        ]
    )
    place.put(TABLE, json.dumps(told, indent=1, ensure_ascii=False).encode())
    place.put(PAGE, page.encode())
    return Round(page, told)
