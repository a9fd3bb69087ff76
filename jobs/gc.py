"""``dr2e gc``: what lies in an output and belongs to nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import click
from tqdm import tqdm

from jobs.options import as_json, parse_storage, storage_options
from jobs.status import opened
from pipeline.garbage import KINDS, Findings, Garbage, delete_garbage, find_garbage
from pipeline.storage import Location

_SHOWN = 10  # names of a group for a person; --json has all
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _Age(click.ParamType):
    name = "age"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhd])|0", value.strip())
        if match is None:
            self.fail(f"{value!r} is no age; give one such as 90m, 36h or 7d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match[2] else timedelta(0)


@click.command("gc")
@click.argument("output")
@click.option("--delete", is_flag=True, help="Delete what is found; without it nothing is changed.")
@click.option(
    "--older-than",
    type=_Age(),
    default="24h",
    show_default=True,
    metavar="AGE",
    help="Keep what is younger: 90m, 36h, 7d.",
)
@storage_options
@as_json
def command(output: str, delete: bool, older_than: timedelta, storage_options: str | None, as_json: bool) -> None:
    """Find what lies in OUTPUT and belongs to nobody; with --delete remove it.

    That is: objects that no commit record names, files that a killed process was writing, and on S3 multipart
    uploads that were never completed. Nobody reads them, and they cost space.

    \b
    dr2e gc out                                     # says what there is, changes nothing
    dr2e gc out --delete
    dr2e gc s3://archive/restored --older-than 7d --delete

    It is safe during a run: an attempt puts its objects and names them in a record right afterwards, so that
    objects as old as --older-than have no attempt any more. Objects are listed before the records are read, and
    the record of a unit is read again right before an object of it is deleted. Do not go below the time that
    committing a unit can take (--older-than 0 is for when nothing runs), and do not delete commit records while
    this runs.

    What is not named as dr2e names its objects is never touched, only listed. A commit record that cannot be read
    stops everything, for it could name anything: 'dr2e verify' says what to do about it.

    Exits 0 whether or not anything was found.
    """
    place = opened(output, parse_storage(storage_options)).location
    found = _found(place, older_than, quiet=as_json)
    if delete:
        with tqdm(total=len(found.garbage), unit=" objects", desc="delete", disable=as_json) as bar:
            delete_garbage(place, found, lambda _: bar.update() and None)
    if as_json:
        click.echo(json.dumps(_as_json(found, delete), indent=1))
    else:
        click.echo("\n".join(_lines(found, delete, older_than)))


def _found(place: Location, older_than: timedelta, quiet: bool) -> Findings:
    with tqdm(unit=" records", desc="gc", disable=quiet) as bar:

        def show(done: int, records: int) -> None:
            bar.total = records
            bar.update()

        return find_garbage(place, older_than, show)


def _lines(found: Findings, delete: bool, older_than: timedelta) -> Iterator[str]:
    for kind, what in KINDS.items():
        if group := [garbage for garbage in found.garbage if garbage.kind == kind]:
            yield f"{_amount(group)}  {what}"
            yield from _names([garbage.name for garbage in group])
    if found.kept:
        yield f"{_amount(found.kept)}  kept: younger than {older_than}, a run may be about to name them"
    if found.foreign:
        yield f"{len(found.foreign):,} names that are not of dr2e's making, left alone"
        yield from _names(found.foreign)
    if found.complaint:
        yield f"unfinished uploads were not looked for: {found.complaint}"
    if not found.garbage:
        yield f"nothing to delete beside {found.units:,} committed units"
    elif delete:
        yield f"deleted {_amount(found.deleted)}"
    else:
        yield f"{_amount(found.garbage)} can be deleted; run with --delete to delete them"


def _names(names: Sequence[str]) -> Iterator[str]:
    yield from (f"    {name}" for name in names[:_SHOWN])
    if len(names) > _SHOWN:
        yield f"    and {len(names) - _SHOWN:,} more; --json names all"


def _amount(group: Sequence[Garbage]) -> str:
    return f"{len(group):,} objects, {sum(garbage.bytes for garbage in group) / 1e6:,.1f} MB"


def _as_json(found: Findings, delete: bool) -> dict[str, Any]:
    def listed(group: Sequence[Garbage]) -> list[dict[str, Any]]:
        return [
            {"name": one.name, "kind": one.kind, "bytes": one.bytes, "since": one.since and one.since.isoformat()}
            for one in group
        ]

    return {
        "units": found.units,
        "delete": delete,
        "garbage": listed(found.garbage),
        "deleted": listed(found.deleted),
        "kept": listed(found.kept),
        "foreign": found.foreign,
        "complaint": found.complaint or None,
    }
