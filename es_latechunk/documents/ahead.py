"""Small objects of stores are fetched before their turn, several at a time.

Each of them costs two requests, for its bytes and for its version, and such requests wait far longer than they work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from es_latechunk.documents.parts import FilePart
from es_latechunk.documents.sources import SourceFile
from es_latechunk.threads import Workers

if TYPE_CHECKING:
    from es_latechunk.documents.remote.objects import RemoteFile

FETCHERS = 8
MOST_IN_LINE = 32
SMALL_BYTES = 2 * 1024 * 1024  # a larger object is read when its turn has come, and never whole in memory

T = TypeVar("T")


def fetched_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order, and fetch what is small among the next ones: at most MOST_IN_LINE, all in memory.

    An object that cannot be fetched raises when it is opened, as it does if it is read in its turn.
    """
    line: deque[T] = deque()
    workers: Workers[bytes] | None = None
    try:
        for item in items:
            if _is_small_object(item):
                workers = workers or Workers(FETCHERS)
                item = _fetched(item, workers)
            elif not line:
                # A source without small objects has no line: each item waits for its turn where it is.
                yield item
                continue
            line.append(item)
            if len(line) == MOST_IN_LINE:
                yield line.popleft()
        while line:
            yield line.popleft()
    finally:
        if workers:
            workers.end()


def _is_small_object(item: object) -> bool:
    """True if an object is known to be small; nobody knows it of those of web servers, whose size is 0."""
    return (
        isinstance(item, FilePart)
        and bool(item.kind)
        and item.end is None
        and not isinstance(item.file, SourceFile)
        and 0 < item.file.size <= SMALL_BYTES
    )


def _fetched(item: T, workers: Workers[bytes]) -> T:
    part = cast(FilePart, item)
    return cast(T, replace(part, file=cast("RemoteFile", part.file).fetched_by(workers)))
