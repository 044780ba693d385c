"""Objects that are read over a network: from begin to end, and again from where a connection was lost."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar, cast

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from es_latechunk.documents.remote.address import ObjectError, UnreachableError
from es_latechunk.threads import pause

ATTEMPTS = 5  # for each block
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0  # seconds
AGAIN = "run the same command again"
GONE = f"is gone since it was listed; {AGAIN}"
CHANGED = f"changed while it was read, so its text is not complete; {AGAIN}"

T = TypeVar("T")


class GoneError(ObjectError):
    """There is no object of that name."""


class LostError(Exception):
    """An attempt failed in a way that another attempt may not; the message is the reason."""


def retried(attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns; repeat it after a LostError, a bounded number of times."""
    retrying = Retrying(
        sleep=pause,
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        retry=retry_if_exception_type(LostError),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except LostError as error:
        raise UnreachableError(f"cannot be read in {ATTEMPTS} attempts ({error}); {AGAIN}") from error


def open_object(blocks: Callable[[int], Iterator[bytes]]) -> BinaryIO:
    """Return a stream of an object.

    `blocks` yields the bytes from a position to the end of the object, and raises LostError where that breaks off; it
    is then called again with the position of the first byte that is missing. No more than two blocks are in memory.
    """
    return io.BufferedReader(_ObjectStream(blocks))


def open_anywhere(blocks: Callable[[int, int], Iterator[bytes]], size: int) -> BinaryIO:
    """Return a stream of an object of `size` bytes that can be positioned, and fetches only what is read of it.

    `blocks` yields the bytes from one position to another, as in `open_object`.
    """
    return cast(BinaryIO, _PositionedStream(blocks, size))


class _PositionedStream(io.RawIOBase):
    def __init__(self, blocks: Callable[[int, int], Iterator[bytes]], size: int) -> None:
        self._blocks = blocks
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        )
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        begin, end = self._position, min(self._position + len(buffer), self._size)
        while self._position < end:
            block = retried(lambda: next(self._blocks(self._position, end)))
            buffer[self._position - begin : self._position - begin + len(block)] = block
            self._position += len(block)
        return max(0, end - begin)


class _ObjectStream(io.RawIOBase):
    def __init__(self, blocks: Callable[[int], Iterator[bytes]]) -> None:
        self._open = blocks
        self._blocks: Iterator[bytes] | None = None
        self._fetched = 0  # bytes of the object
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._fetched - len(self._ready)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._ready:
            block = retried(self._next_block)
            self._fetched += len(block)
            self._ready = memoryview(block)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _next_block(self) -> bytes:
        if self._blocks is None:
            self._blocks = self._open(self._fetched)
        try:
            return next(self._blocks, b"")
        except LostError:
            self._blocks = None
            raise
