"""What can be wrong with a model that is named."""

from __future__ import annotations


class ModelError(ValueError):
    """A model is missing, is not what it should be, or may not be used yet; one line naming it and the remedy."""
