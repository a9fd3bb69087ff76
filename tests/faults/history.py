"""Rules of the commit protocol that the end of a run does not show: they are held against every write it made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from faults.proxy import Entry


@dataclass(frozen=True)
class Write:
    """Something a run did to its output, in order. name: below the output. "create" is a put on condition that there is
    nothing; done: whether it was carried out."""

    verb: Literal["put", "create", "delete"]
    name: str
    done: bool = True


def writes(journal: Sequence[Entry], prefix: str) -> Iterator[Write]:
    """The writes among the requests below an output, `prefix` being "/bucket/out/"."""
    for entry in journal:
        request = entry.request
        if request.path.startswith(prefix) and request.method in ("PUT", "DELETE"):
            verb: Literal["put", "create", "delete"] = "delete" if request.method == "DELETE" else "put"
            done = request.status is not None and request.status < 300
            yield Write("create" if request.conditional else verb, request.path.removeprefix(prefix), done)


def broken_rules(history: Iterable[Write]) -> list[str]:
    """What a run did that it must never do, a line each."""
    broken: list[str] = []
    created: set[str] = set()
    before_the_record: set[str] = set()  # objects a record may name
    for write in history:
        kind, _, base = write.name.partition("/")
        if kind == "commits":
            if write.verb != "create":
                broken.append(f"{write.name} was {'deleted' if write.verb == 'delete' else 'put without a condition'}")
            elif write.done and write.name in created:
                broken.append(f"{write.name} was created twice")
            elif write.done:
                created.add(write.name)
        elif kind in ("shards", "manifest", "rejects") and write.verb == "put" and write.done:
            if f"commits/{base.rpartition('-')[0]}.json" not in created:
                before_the_record.add(write.name)
            elif write.name in before_the_record:
                broken.append(f"{write.name} was written again after its unit was committed")
    return broken
