"""What can be wrong with a model that is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ModelError(ValueError):
    """A model is missing, is not what it should be, or may not be used yet; one line naming it and the remedy."""


@contextmanager
def files_named(where: object) -> Iterator[None]:
    """Inside, what the system says of a local file is a ModelError, of the file it names, or else of `where`."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{error.filename or where}: {error.strerror or type(error).__name__}") from None
