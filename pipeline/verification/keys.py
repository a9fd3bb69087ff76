"""Whether a photo is in an output twice, with memory for the shards under way only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from pipeline.units import base_unit, parse_unit_id, retry_number
from pipeline.verification.findings import Finding, Remedies

_SHOWN = 5  # keys in a message; all of a unit's may be repeated


def shard_of(unit: str) -> str:
    """The shard a unit is of, by its name."""
    parsed = parse_unit_id(base_unit(unit))
    return parsed[0] if parsed else unit


class Keys:
    """Collects the keys of units that were read. units: all that will be told of, by name."""

    def __init__(self, units: Iterable[str], remedies: Remedies) -> None:
        self._left = Counter(shard_of(unit) for unit in units)
        # Per shard and key: the units with a row for it, and those of them with a result.
        self._rows: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._results: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        # Likewise: later attempts that rejected it again.
        self._again: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._names: dict[str, str] = {}
        self._remedies = remedies

    @property
    def held(self) -> int:
        """How many keys are in memory."""
        return sum(len(keys) for kind in (self._rows, self._results, self._again) for keys in kind.values())

    def add(self, unit: str, name: str, photos: Iterable[tuple[str, bool]]) -> list[Finding]:
        """Note a unit's photos (key, whether it has a result); what is repeated once its shard is complete.

        name: of the input shard, as its photos give it; "" when they could not be read.
        """
        shard = shard_of(unit)
        if name:
            self._names[shard] = name
        for key, has_result in photos:
            # Another record may hold a later attempt at the photos a unit rejected (UNIT.retry1): only a record
            # after a result of such a photo is one too many.
            if base_unit(unit) == unit:
                self._rows[shard][key].append(unit)
            if has_result:
                self._results[shard][key].append(unit)
            elif base_unit(unit) != unit:
                self._again[shard][key].append(unit)
        self._left[shard] -= 1
        if self._left[shard]:
            return []
        del self._left[shard]
        for key, attempts in self._again.pop(shard, {}).items():
            if there := self._results[shard].get(key):
                first = min(map(retry_number, there))
                there += [attempt for attempt in attempts if retry_number(attempt) > first]
        noted = [kind.pop(shard) for kind in (self._rows, self._results) if shard in kind]
        return list(self._repeated(self._names.pop(shard, shard), noted))

    def _repeated(self, name: str, kinds: Iterable[Mapping[str, list[str]]]) -> Iterator[Finding]:
        """A finding for each set of units that share photos."""
        shared: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        for units_of in kinds:
            for key, there in units_of.items():
                if len(there) > 1:
                    shared[tuple(sorted(there))].add(key)
        for units, keys in sorted(shared.items()):
            shown = ", ".join(map(repr, sorted(keys)[:_SHOWN])) + (", ..." if len(keys) > _SHOWN else "")
            where = f"twice in {units[0]}" if len(set(units)) == 1 else f"in {' and in '.join(units)}"
            photos = "1 photo is" if len(keys) == 1 else f"{len(keys)} photos are"
            yield Finding(name, "photo.repeated", f"{photos} {where}: {shown}", self._remedies.redo(set(units), name))
