"""Streams of files: unpacked, and read in parts that are never larger than one document may be."""

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
    """Return the stream itself, or its unpacked content if the file name ends in `.gz`."""
    if name.lower().endswith(GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    return stream


def too_large(limit: int) -> str:
    """Return the reason for refusing a document of more than `limit` bytes."""
    return f"is larger than {limit:,} bytes; raise {setting('max_document_bytes')}"


def read_whole(stream: BinaryIO, limit: int) -> bytes:
    """Return all bytes of a stream; if there are more than `limit`, raise a ValueError without reading them."""
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(too_large(limit))
    return content


def bounded_lines(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """Yield lines with their ends. Of a line of more than `limit` bytes, only the first `limit` + 1 bytes are kept."""
    while line := stream.readline(limit + 1):
        rest = line
        while len(line) > limit and rest and not rest.endswith(b"\n"):
            rest = stream.readline(BLOCK)
        yield line


def bounded_csv_lines(stream: BinaryIO, limit: int) -> Iterator[bytes]:
    """Yield lines as `bounded_lines` does, but let them also end in CR alone, as in the CSV of old spreadsheets."""
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
    """Return the UTF-16 or UTF-32 encoding named by a byte order mark or by the user; None for any other encoding."""
    marked = marked_encoding(cast(io.BufferedReader, stream).peek(4)[:4])
    return marked or (encoding if encoding and is_wide(encoding) else None)


def narrowed(stream: BinaryIO, encoding: str) -> BinaryIO:
    """Return a stream in UTF-16 or UTF-32 converted to UTF-8, in which a line end is one byte."""
    return io.BufferedReader(cast(io.RawIOBase, _Narrowed(stream, encoding)))


class _Narrowed(io.RawIOBase):
    """A stream that converts another encoding to UTF-8 while it is read."""

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
