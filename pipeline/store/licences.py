"""Licences of models: which must be acknowledged before a model is used, and whether that was done."""

from __future__ import annotations

import re

NOT_STATED = "not stated"
"""The licence of what its publisher gives none."""

_NONCOMMERCIAL = re.compile(r"(^|[-_ ])nc([-_ .]|$)|non-?commercial|s-lab", re.IGNORECASE)


def is_noncommercial(licence: str) -> bool:
    """Whether a licence, by its SPDX identifier or name, forbids commercial use, as CC-BY-NC-SA-4.0 does."""
    return _NONCOMMERCIAL.search(licence) is not None


def refusal(name: str, licence: str) -> str:
    """Why a model is not used yet, and what to do: one line."""
    return (
        f"{name}: its licence ({licence}) forbids commercial use; if that is how you use it, say so once with "
        f"'dr2e models pull {name} --accept-licence' ('add' for a file of yours), or --set models.accept=[{name}]"
    )
