"""Opening files: gzip seen through, and no more held than one document may have."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from typing import BinaryIO, cast

from es_latechunk.documents.encoding import UTF8, is_wide, marked_encoding
from es_latechunk.errors import setting

GZIP = ".gz"
BLOCK = 64 * 1024


def unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """The stream itself, or what is packed in it where the file's name ends in `.gz`."""
    if name.lower().endswith(GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    return stream


def too_large(limit: int) -> str:
    """Why a document is refused that has more bytes than it may."""
    return f"is larger than {limit:,} bytes; raise {setting('max_document_bytes')}"


def read_whole(stream: BinaryIO, limit: int) -> bytes:
    """All bytes of a stream; a ValueError when there are more than `limit`, which are not read."""
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(too_large(limit))
    return content


def bounded_lines(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """Lines with their ends. One of more than `limit` bytes comes cut, longer than the limit all the same."""
    while line := stream.readline(limit + 1):
        rest = line
        while len(line) > limit and rest and not rest.endswith(b"\n"):
            rest = stream.readline(BLOCK)
        yield line


def bounded_csv_lines(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """The same for CSV, whose lines may also end in CR alone, as old spreadsheets wrote them."""
    line, after_cr = bytearray(), False
    while block := stream.readline(BLOCK):
        for part in block.splitlines(keepends=True):
            if after_cr and part != b"\n":
                yield bytes(line)
                line.clear()
            if len(line) <= limit:
                line += part
            after_cr = part.endswith(b"\r")
            if part.endswith(b"\n"):
                yield bytes(line)
                line.clear()
    if line:
        yield bytes(line)


def wide_encoding(stream: BinaryIO, encoding: str | None) -> str | None:
    """The UTF-16 or UTF-32 that a stream's byte order mark tells, or the user; None for any other encoding."""
    marked = marked_encoding(cast(io.BufferedReader, stream).peek(4)[:4])
    return marked or (encoding if encoding and is_wide(encoding) else None)


def narrowed(stream: BinaryIO, encoding: str) -> BinaryIO:
    """A stream in UTF-16 or UTF-32 as UTF-8, so that its lines can be told from bytes."""
    return io.BufferedReader(cast(io.RawIOBase, _Narrowed(stream, encoding)))


class _Narrowed(io.RawIOBase):
    """A stream in another encoding, as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        ended = False
        while not self._ready and not ended:
            block = self._stream.read(BLOCK)
            ended = not block
            self._ready = self._decoder.decode(block, final=ended).encode(UTF8)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
