"""An object read once, from front to back, and hashed as it passes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

BLOCK = 4 * 2**20
"""Bytes of one request. All that is ever held of an object is one block and what a header spans."""


class HashedStream:
    """A `tar.Readable` over an object of `size` bytes that hashes all of it and, on demand, a part.

    read_range: the bytes from one offset up to another. What it raises comes through.
    """

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range, self._size = read_range, size
        self._position = 0
        self._held, self._begin, self._end = b"", 0, 0  # _held is what lies from _begin up to _end
        self._ended = False
        self._whole = hashlib.sha256()
        self._part, self._part_begin, self._part_end = hashlib.sha256(), 0, 0

    def seek(self, offset: int, /) -> int:
        self._position = offset
        return offset

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes from the position. Raises ValueError for bytes that have gone by."""
        if self._position < self._begin:
            raise ValueError("a stream does not go back")
        end = min(self._position + size, self._size)
        while self._end < end and not self._ended:
            self._advance()
        found = self._held[self._position - self._begin : end - self._begin]
        self._position += len(found)
        return found

    def watch(self, offset: int, size: int) -> hashlib._Hash:
        """A sha256 that gets the bytes of a part ahead as they pass. One part at a time, none that has gone by."""
        self._part, self._part_begin, self._part_end = hashlib.sha256(), offset, offset + size
        self._feed(self._held, self._begin)
        return self._part

    def finish(self) -> str:
        """Read what is left. The sha256 (hex) of the whole object."""
        self._position = self._end
        while self._end < self._size and not self._ended:
            self._advance()
            self._position = self._end
        return self._whole.hexdigest()

    def _advance(self) -> None:
        block = self._read_range(self._end, min(self._end + BLOCK, self._size))
        self._ended = not block  # shorter than it was listed as
        self._whole.update(block)
        self._feed(block, self._end)
        # From the position on everything may still be asked for; what lies before has gone by.
        kept = self._held[self._position - self._begin :] if self._position < self._end else b""
        self._begin = self._end - len(kept)
        self._held = kept + block
        self._end += len(block)

    def _feed(self, block: bytes, begin: int) -> None:
        """Give the part that is watched its share of `block`, which lies at `begin`."""
        if self._part_end > begin:
            start = max(self._part_begin - begin, 0)
            self._part.update(memoryview(block)[start : self._part_end - begin])
