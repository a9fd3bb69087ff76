"""The data card of a set of pairs: README.md for people, dataset_info.json and lists of shards for programs.

All of it follows from what is committed, and the same commits give the same bytes. Loaders that take every tar of a
folder may meet one that an interrupted attempt left; the lists name those that count.
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.ledger import SHARDS, VALIDATION, CommitRecord, finite
from pipeline.manifest import PREVIEW_SIDE
from pipeline.output import Output
from pipeline.parallel import ordered

README, INFO, SHEET = "README.md", "dataset_info.json", "contact.jpg"
FORMAT = "dr2e.pairs/1"
SPLITS = {"train": SHARDS, "validation": VALIDATION}

_COLUMNS = ("status", "error", "folder", "faces")
_READERS = 16  # manifests in flight
_SHOWN = 24  # pairs of the contact sheet
_ACROSS = 4


@dataclass
class Facts:
    """What a set of pairs holds. units: commit records, later attempts among them. shards: name, bytes and pairs of
    each tar, by split; left_out: photos by reason."""

    units: int = 0
    photos: int = 0
    shards: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    targets: Counter[str] = field(default_factory=Counter)
    recipes: Counter[str] = field(default_factory=Counter)
    taus: Counter[int] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    evaluations: int = 0
    strips: list[bytes] = field(default_factory=list)

    @property
    def pairs(self) -> dict[str, int]:
        return {split: sum(shard["pairs"] for shard in shards) for split, shards in self.shards.items()}


def publish(output: Output) -> dict[str, Any]:
    """Write the card of what is committed; returns what dataset_info.json holds. Raises StorageError, and LedgerError
    for a broken record or manifest."""
    facts = gather(output)
    run = output.run() or {}
    location = output.location
    if facts.strips:
        location.put(SHEET, contact_sheet(facts.strips))
    for split, shards in facts.shards.items():
        location.put(f"{split}.txt", "".join(f"{shard['name']}\n" for shard in shards).encode())
    told = finite(info(facts, run))
    location.put(INFO, json.dumps(told, indent=1, ensure_ascii=False).encode())
    location.put(README, readme(facts, run).encode())  # last: it says that the card is whole
    return dict(told)


def published(output: Output) -> dict[str, Any] | None:
    """What dataset_info.json holds, if the card is of all that is committed now; costs one listing and not a manifest
    per unit. Raises StorageError."""
    data = output.location.read_or_none(INFO) if output.location.exists(README) else None
    try:
        told = json.loads(data or b"null")
        is_of_now = told["format"] == FORMAT and told["units"] == len(output.committed())
    except (ValueError, KeyError, TypeError):
        return None
    return dict(told) if is_of_now else None


def gather(output: Output) -> Facts:
    """What the commit records name and their manifests say."""
    facts = Facts()

    def read(history: Sequence[CommitRecord]) -> list[tuple[CommitRecord, pa.Table]]:
        return output.rows(history, _COLUMNS)

    for found in ordered(read, output.histories(), _READERS):
        for record, rows in found:
            _add(facts, record, rows)
    return facts


def _add(facts: Facts, record: CommitRecord, rows: pa.Table) -> None:
    made: Counter[str] = Counter()
    facts.units += 1
    for row in rows.to_pylist():
        facts.photos += 1
        if row["status"] == "rejected":
            facts.left_out[row["error"]] += 1
            continue
        facts.targets[row["folder"]] += 1
        made[row["folder"]] += len(row["faces"])
        for face in row["faces"]:
            facts.recipes[face["reason"]] += 1
            if face["tau"] is not None:
                facts.taus[face["tau"]] += 1
            facts.evaluations += face["evaluations"]
            if face["preview"] and len(facts.strips) < _SHOWN:
                facts.strips.append(face["preview"])
    for split, folder in SPLITS.items():
        if stored := record.object(folder):
            facts.shards[split].append({"name": stored.name, "bytes": stored.bytes, "pairs": made[folder]})


def info(facts: Facts, run: Mapping[str, Any]) -> dict[str, Any]:
    """The content of dataset_info.json."""
    config = run.get("config") or {}
    return {
        "format": FORMAT,
        "splits": {
            split: {
                "num_examples": facts.pairs[split],
                "num_targets": facts.targets[folder],
                "num_bytes": sum(shard["bytes"] for shard in facts.shards[split]),
                "shards": facts.shards[split],
            }
            for split, folder in SPLITS.items()
        },
        "features": {"lq.png": "image", "hq.png": "image", "json": "json"},
        "units": facts.units,
        "photos": facts.photos,
        "left_out": dict(facts.left_out.most_common()),
        "recipes": dict(facts.recipes.most_common()),
        "taus": {str(tau): count for tau, count in sorted(facts.taus.items())},
        "evaluations": facts.evaluations,
        "seed": config.get("seed"),
        "pairs": config.get("pairs"),
        "models": run.get("models"),
        "versions": run.get("versions"),
        "input": run.get("input"),
    }


def readme(facts: Facts, run: Mapping[str, Any]) -> str:
    """The data card. Its head is what the Hugging Face hub and `datasets` read."""
    config = run.get("config") or {}
    pairs = config.get("pairs") or {}
    prior = (run.get("models") or {}).get("prior") or {}
    counts = facts.pairs
    head = ["---", "task_categories:", "- image-to-image", "configs:", "- config_name: default", "  data_files:"]
    for split, shards in facts.shards.items():
        if shards:
            head += [f"  - split: {split}", "    path:", *(f"    - {json.dumps(shard['name'])}" for shard in shards)]
    total, targets = sum(counts.values()), sum(facts.targets.values())
    page = [
        "---",
        "",
        "# Training pairs for face restoration",
        "",
        f"{total:,} pairs of {targets:,} faces: {counts['train']:,} for training and {counts['validation']:,} for "
        f"validation. No person is in both, as far as keys tell persons apart{_told_apart(pairs)}.",
        "",
        "A sample is `KEY-P.lq.png`, the face degraded; `KEY-P.hq.png`, the face as it was, "
        f"{pairs.get('size')} px; and `KEY-P.json`: key, pair, seed, every drawn parameter, the source, and the "
        "licence that the input gave, if it gave one. With its hq.png and the prior below, a sample's json is enough "
        "to make its lq.png again. Within a tar samples are in an order drawn by the seed. `train.txt` and "
        "`validation.txt` name the tars.",
        "",
        f"![pairs, low quality and high quality]({SHEET})" if facts.strips else "",
        "",
        "| recipe | pairs |",
        "| --- | --- |",
        *(f"| {name} | {count:,} |" for name, count in sorted(facts.recipes.items())),
        "",
        *_table("tau of DR2, timesteps", facts.taus),
        *_table("left out, by reason", facts.left_out),
        f"Seed {config.get('seed')}; settings and versions are in `dataset_info.json`. Prior: {prior.get('name')}, "
        f"licence {prior.get('licence')}, sha256 {prior.get('sha256')}. The licence of the faces is their source's.",
        "",
    ]
    return "\n".join([*head, *page])


def _told_apart(pairs: Mapping[str, Any]) -> str:
    return f" (`{pairs['identity']}`)" if pairs.get("identity") else " (each key is one)"


def _table(title: str, counts: Mapping[Any, int]) -> Iterable[str]:
    if counts:
        yield from (
            f"| {title} | |",
            "| --- | --- |",
            *(f"| {name} | {n:,} |" for name, n in sorted(counts.items())),
            "",
        )


def contact_sheet(strips: Sequence[bytes]) -> bytes:
    """JPEG of the previews of some pairs."""
    rows: defaultdict[int, list[np.ndarray]] = defaultdict(list)
    for place, strip in enumerate(strips):
        rows[place // _ACROSS].append(np.asarray(Image.open(io.BytesIO(strip)).convert("RGB"))[:, PREVIEW_SIDE:])
    width = max(sum(strip.shape[1] for strip in row) for row in rows.values())
    sheet = np.full((PREVIEW_SIDE * len(rows), width, 3), 255, np.uint8)
    for place, row in rows.items():
        line = np.concatenate(row, axis=1)
        sheet[place * PREVIEW_SIDE : (place + 1) * PREVIEW_SIDE, : line.shape[1]] = line
    out = io.BytesIO()
    Image.fromarray(sheet).save(out, format="JPEG", quality=90)
    return out.getvalue()
