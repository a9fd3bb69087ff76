"""Commit protocols that are wrong, to see whether the harness notices: each a small change of `pipeline/commit.py`."""

from __future__ import annotations

from faults.proxy import Fault
from faults.sabotage import Edit
from faults.schedule import Hit, Schedule, Strike

FILE = "pipeline/commit.py"

_PUTS = """        for stored, path in zip(objects, files.values(), strict=True):
            beat()
            try:
                output.put(stored.name, path)
            except StorageError:
                _discard(output, objects)
                raise
    return _publish(output, _record(photos, context, attempt, objects, time.perf_counter() - began))
"""

_CREATE = "        if output.put_if_absent(commit_name(record.unit), record.to_json()):\n"

MUTATIONS: dict[str, Edit] = {
    "the record is skipped": Edit(FILE, _CREATE, "        if record is not None:\n"),
    "the record is written first": Edit(
        FILE,
        _PUTS,
        """        receipt = _publish(output, _record(photos, context, attempt, objects, time.perf_counter() - began))
        for stored, path in zip(objects, files.values(), strict=True):
            output.put(stored.name, path)
    return receipt
""",
    ),
    "the manifest is written after the record": Edit(
        FILE,
        _PUTS,
        """        first, *others = zip(objects, files.values(), strict=True)
        for stored, path in others:
            output.put(stored.name, path)
        receipt = _publish(output, _record(photos, context, attempt, objects, time.perf_counter() - began))
        output.put(first[0].name, first[1])
    return receipt
""",
    ),
    "attempts reuse a name": Edit(FILE, "    attempt = secrets.token_hex(4)\n", '    attempt = "00000000"\n'),
    "the record is put whether it is there or not": Edit(
        FILE,
        _CREATE,
        "        output.put(commit_name(record.unit), record.to_json())\n        if record is not None:\n",
    ),
    "a lost acknowledgement counts as defeat": Edit(
        FILE, "    if there.attempt == record.attempt:\n", "    if there is None:\n"
    ),
    "the beaten attempt removes the winner's objects": Edit(
        FILE, "    _discard(output, record.objects)\n", "    _discard(output, there.objects)\n"
    ),
    "objects are removed when the record's outcome is unknown": Edit(
        FILE, "        failure = error\n", "        failure = error\n        _discard(output, record.objects)\n"
    ),
    "objects are removed when there is no record yet": Edit(
        FILE, "    if there is None:\n", "    if there is None:\n        _discard(output, record.objects)\n"
    ),
}

_KILLED_AFTER_THE_RECORD = Schedule(-1, (Strike("committer", "record", 1, "after", 0.0, 0),), (), {})
_RIVAL_BEFORE_AN_OBJECT = Schedule(-1, (Strike("rival", "object", 1, "before", 0.0, 0),), (), {})
_RIVAL_BEFORE_A_RECORD = Schedule(-1, (Strike("rival", "record", 1, "before", 0.0, 0),), (), {})
_NO_RECORD_IS_ACKNOWLEDGED = Schedule(-1, (), tuple(Hit(Fault.LOST_ACK, "record", nth) for nth in range(1, 1000)), {})

EXPOSED_BY: dict[str, Schedule] = {
    "the record is skipped": Schedule(-1, (), (), {}),
    "the record is written first": _KILLED_AFTER_THE_RECORD,
    "the manifest is written after the record": _KILLED_AFTER_THE_RECORD,
    "attempts reuse a name": _RIVAL_BEFORE_AN_OBJECT,
    "the record is put whether it is there or not": Schedule(-1, (), (), {}),
    "a lost acknowledgement counts as defeat": Schedule(-1, (), (Hit(Fault.LOST_ACK, "record", 1),), {}),
    "the beaten attempt removes the winner's objects": _RIVAL_BEFORE_A_RECORD,
    "objects are removed when the record's outcome is unknown": _NO_RECORD_IS_ACKNOWLEDGED,
}
"""The schedule under which a mutation shows in a run with real processes. One never does: for a record that is created
after its request has failed and was read back in vain, the proxy would have to outwait the client; `crashes` has it."""

IMPATIENT = {"objects are removed when the record's outcome is unknown": ("resources.patience_seconds=5",)}
"""Settings of such a run, where it has to give up in good time."""
