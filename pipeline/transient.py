"""Which failures of storage pass by themselves, and how long to wait between attempts.

Servers that are throttled, restarted or cut off answer again after a while. The clients below us try a few times
within seconds; a run that lasts a night has to be more patient than that.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

PATIENCE = 15.0
"""Seconds a single operation goes on trying unless told otherwise: enough for a hiccup, short at a terminal."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 20.0  # seconds

_STATUS = {408, 429, 500, 502, 503, 504}
_CODES = {
    "ConditionalRequestConflict",  # two conditional PUTs at once; S3 asks to try again
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
# By name: which client raises depends on the protocol, and none of them is imported for the others' sake.
_CLASSES = {
    "ClientConnectionError",  # aiohttp
    "ClientPayloadError",
    "ConnectTimeoutError",  # botocore
    "EndpointConnectionError",
    "HTTPClientError",
    "ResponseParserError",
    "IncompleteRead",  # http.client
    "FSTimeoutError",  # fsspec
}
_NUMBERS = {errno.EBUSY, errno.EREMOTEIO, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT}


class ShortTransfer(OSError):
    """Fewer bytes arrived than there are."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later, to judge by `error` and what it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if _passes(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def pauses() -> Iterator[float]:
    """Seconds between attempts: doubling, and spread at random so that many workers do not return at once."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, LONGEST_PAUSE)


def _passes(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | ShortTransfer):
        return True
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in _STATUS or response.get("Error", {}).get("Code") in _CODES
    if any(base.__name__ in _CLASSES for base in type(error).__mro__):
        return True
    return isinstance(error, OSError) and error.errno in _NUMBERS
