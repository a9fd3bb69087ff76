"""Licences of models: which must be acknowledged before a model is used, and whether that was done."""

from __future__ import annotations

import re
from collections.abc import Iterable

NOT_STATED = "not stated"
"""The licence of what its publisher gives none."""

_NONCOMMERCIAL = re.compile(r"(^|[-_ ])nc([-_ .]|$)|non[-_ ]?commercial|s-lab", re.IGNORECASE)


def is_noncommercial(licence: str) -> bool:
    """Whether a licence, by its SPDX identifier or name, forbids commercial use, as CC-BY-NC-SA-4.0 does."""
    return _NONCOMMERCIAL.search(licence) is not None


def strictest(licences: Iterable[str | None]) -> str:
    """Of what several say of a model's licence, the first that forbids commercial use, or else the first that says
    something; "" where nobody does."""
    said = [licence for licence in licences if licence]
    return next((licence for licence in said if is_noncommercial(licence)), said[0] if said else "")


def refusal(name: str, licence: str, *, stored: bool = True, to_accept: str = "") -> str:
    """Why a model is not used yet, and what to do: one line. stored: whether a store has it. to_accept: the name that
    is acknowledged, where that is another."""
    once = f"once for all with 'dr2e models accept {name}', or " if stored else ""
    return (
        f"{name}: its licence ({licence}) forbids commercial use; acknowledge that {once}with "
        f"--set models.accept=[{to_accept or name}]"
    )
