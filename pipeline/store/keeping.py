"""The store of models: on any place that holds objects, a folder for each model, and its record written last.

STORE/NAME/SHA256/FILE   the weights as they came; the folder is called by the beginning of the model's SHA-256
STORE/NAME/model.json    what they are; there is no model without it, and it is created only if absent
STORE/NAME/licence.json  that its licence was acknowledged, and when
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pipeline.storage import Location
from pipeline.store.errors import ModelError
from pipeline.store.record import LICENCE, RECORD, Record


class ModelStore:
    """Models by name at one location."""

    def __init__(self, location: Location) -> None:
        self.location = location

    @property
    def url(self) -> str:
        return self.location.url

    def find(self, name: str) -> Record | None:
        """The record of a model; None when there is none. Raises ModelError for a damaged one."""
        text = self.location.read_or_none(f"{name}/{RECORD}")
        return None if text is None else self._decoded(name, text)

    def names(self) -> list[str]:
        """Of all models, also of those whose record is damaged, sorted."""
        folders = (entry.name.split("/") for entry in self.location.entries())
        return sorted(parts[0] for parts in folders if len(parts) == 2 and parts[1] == RECORD)

    def contents(self) -> tuple[list[Record], dict[str, str]]:
        """The records of all models, by name, and of those whose record is damaged what is wrong with it."""
        records, damaged = [], {}
        for name in self.names():
            try:
                record = self.find(name)
            except ModelError as error:
                damaged[name] = str(error)
            else:
                records += [record] if record is not None else []
        return records, damaged

    def records(self) -> list[Record]:
        """Of all models whose record can be read, by name."""
        return self.contents()[0]

    def put(self, record: Record, files: Mapping[str, Path]) -> Record:
        """Store local files and then their record; what is stored under the name afterwards.

        Raises ModelError when the name is taken by other weights; then nothing of these stays. Whoever stores the same
        at the same time wins alike.
        """
        if mine := (there := self.find(record.name)) is None:
            for file in record.files:
                self.location.put(f"{record.folder}/{file.name}", files[file.name])
            if self.location.put_if_absent(f"{record.name}/{RECORD}", record.encoded()):
                return record
            there = self.find(record.name)
        if there is None or there.sha256 != record.sha256:
            for file in record.files if mine else ():
                self.location.delete(f"{record.folder}/{file.name}")
            held = "nothing any more" if there is None else f"weights with SHA-256 {there.sha256}"
            raise ModelError(
                f"{record.name}: {self.url} holds {held} under this name, not {record.sha256}; choose another --name, "
                f"or remove it first with 'dr2e models remove {record.name}'"
            )
        return there

    def remove(self, name: str) -> bool:
        """Remove a model, its record first, so that nobody finds half of one; False when there was none."""
        was_there = self.location.exists(f"{name}/{RECORD}")
        self.location.delete(f"{name}/{RECORD}")
        for entry in self.location.entries(name):
            self.location.delete(entry.name)
        return was_there

    def accept(self, record: Record) -> None:
        """Note that the licence of a model was acknowledged."""
        told = {"licence": record.licence, "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
        self.location.put_if_absent(f"{record.name}/{LICENCE}", json.dumps(told, indent=1).encode())

    def accepted(self, name: str) -> bool:
        """Whether the licence of a model was acknowledged here."""
        return self.location.exists(f"{name}/{LICENCE}")

    def _decoded(self, name: str, text: bytes) -> Record:
        where = f"{self.url}/{name}/{RECORD}"
        record = Record.decoded(text, where)
        if record.name != name:
            raise ModelError(f"{where} is the record of {record.name!r}; remove the model and store it again")
        return record
