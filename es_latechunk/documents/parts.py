"""Parts of a source: a file, or those lines or row groups of it that begin in a range of its bytes.

A source is listed once, as parts; they are read in the order of the list, by this process or by others.
"""

from __future__ import annotations

import io
import uuid
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from gzip import BadGzipFile
from typing import TYPE_CHECKING, BinaryIO, cast

from es_latechunk.documents.encoding import marked_encoding
from es_latechunk.documents.formats.binary import read_docx, read_pdf
from es_latechunk.documents.formats.csv import read_csv
from es_latechunk.documents.formats.html import read_html
from es_latechunk.documents.formats.jsonl import read_jsonl
from es_latechunk.documents.formats.parquet import read_parquet
from es_latechunk.documents.formats.text import read_markdown, read_text
from es_latechunk.documents.options import Reading
from es_latechunk.documents.remote.address import ObjectError, UnreachableError
from es_latechunk.documents.sources import SourceFile, printable
from es_latechunk.documents.streams import BLOCK, GZIP, unpacked
from es_latechunk.errors import DocumentError
from es_latechunk.types import Document

if TYPE_CHECKING:
    from es_latechunk.documents.remote.objects import RemoteFile

Reader = Callable[[BinaryIO, str, Reading], Iterator[Document | DocumentError]]
MARK_BYTES = 4
READERS: dict[str, Reader] = {
    "text": read_text,
    "markdown": read_markdown,
    "html": read_html,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "pdf": read_pdf,
    "docx": read_docx,
    "parquet": read_parquet,
}


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file that was listed, or a part of it.

    `kind` is the format, "" if it is unknown, and `source` the number of the path or address that it was found at. A
    part of a file has the bytes from `start` to `end`; `lines_of` is the name under which its lines are counted from 1,
    "" if they are counted as those of the file.
    """

    file: SourceFile | RemoteFile
    kind: str
    source: int
    start: int = 0
    end: int | None = None
    lines_of: str = ""

    @property
    def size(self) -> int:
        """The bytes on disk; 0 if they are not known."""
        return (self.file.size if self.end is None else self.end) - self.start

    def ranges(self, size: int, reading: Reading) -> list[FilePart]:
        """Cut a file into parts of `size` bytes, if its format allows it and it is larger.

        How many lines come before a part is known only when these have been read, so its lines are counted under a
        name that nothing else has, and `Lines` gives them their numbers.
        """
        divisible = self.kind == "parquet" or (
            self.kind == "jsonl" and reading.encoding is None and not self.file.name.lower().endswith(GZIP)
        )
        if not divisible or self.file.size <= size:
            return [self]
        return [
            replace(
                self,
                start=start,
                end=min(start + size, self.file.size),
                lines_of=uuid.uuid4().hex if start and self.kind == "jsonl" else "",
            )
            for start in range(0, self.file.size, size)
        ]


@dataclass(frozen=True, slots=True)
class PartEnd:
    """How the reading of a part ended: the error that ended it early, whether its store could be reached, its lines."""

    error: DocumentError | None = None
    reached: bool = True
    lines: int = 0


PartReading = Generator[Document | DocumentError, None, PartEnd]


def read_part(part: FilePart, reading: Reading) -> PartReading:
    """Yield the documents of a part; an error that ends it early is in the PartEnd that is returned, not yielded."""
    file, lines = part.file, 0
    try:
        with _opened(part) as stream:
            reported = stream.tell()  # bytes on disk, not of the unpacked content
            for document in _documents(part, stream, reading):
                reading.on_read(stream.tell() - reported)
                reported = stream.tell()
                yield document
            reading.on_read(stream.tell() - reported)
            lines = getattr(stream, "lines", 0)
        if part.end is not None and isinstance(file, SourceFile):
            file.check_unchanged()
    except (OSError, EOFError, zlib.error, ValueError) as error:
        failed = DocumentError(printable(file.id), cause_of(error))
        return PartEnd(failed, reached=not isinstance(error, UnreachableError))
    return PartEnd(lines=lines)


def _documents(part: FilePart, stream: BinaryIO, reading: Reading) -> Iterator[Document | DocumentError]:
    file = part.file
    if part.kind == "parquet":
        return read_parquet(unpacked(stream, file.name), file.id, reading, part.start, part.end)
    if part.end is not None:
        return read_jsonl(stream, part.lines_of or file.id, reading, begins_file=not part.start)
    return READERS[part.kind](unpacked(stream, file.name), file.id, reading)


@contextmanager
def _opened(part: FilePart) -> Iterator[BinaryIO]:
    file = part.file
    if part.kind == "parquet":
        with file.open_anywhere() as stream:
            stream.seek(part.start)
            yield stream
    elif part.end is None:
        with file.open() as stream:
            yield stream
    else:
        with file.open(0, MARK_BYTES) as stream:
            wide = marked_encoding(stream.read(MARK_BYTES)) is not None
        before = max(0, part.start - 1)
        with file.open(before, file.size if wide else part.end) as stream:
            if wide:  # a byte is no line end there, so the first part has all lines
                yield stream if not part.start else io.BytesIO()
            else:
                yield cast(BinaryIO, LineRange(stream, part.start, part.end))


class LineRange(io.BufferedReader):
    """The lines of a stream that begin in a range of its bytes.

    The stream begins one byte before the range, unless that begins at 0: a line begins after a line end. `lines` counts
    the line ends that were read.
    """

    def __init__(self, stream: BinaryIO, start: int, end: int) -> None:
        self._range = _RangeOfLines(stream, start, end)
        super().__init__(self._range, BLOCK)

    @property
    def lines(self) -> int:
        return self._range.lines

    def tell(self) -> int:
        """Return how much of the range is read; the last line may end after it."""
        return min(self._range.position, self._range.end) - self._range.start


class _RangeOfLines(io.RawIOBase):
    def __init__(self, stream: BinaryIO, start: int, end: int) -> None:
        self._stream = stream
        self.start, self.end, self.position = start, end, start
        self.lines = 0
        self._in_line = False
        self._began = False

    def _skip_line(self) -> None:
        """Skip the line that begins before the range; it may fill the range."""
        self.position -= 1
        while self.position < self.end:
            line = self._stream.readline(min(BLOCK, self.end - self.position))
            self.position += len(line)
            if not line or line.endswith(b"\n"):
                return

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.start and not self._began:
            self._began = True
            self._skip_line()
        left = self.end - self.position
        if left > 0:
            block = self._stream.read(min(len(buffer), left))
        elif self._in_line:
            block = self._stream.readline(len(buffer))
        else:
            return 0
        self.position += len(block)
        self.lines += block.count(b"\n")
        self._in_line = bool(block) and not block.endswith(b"\n")
        buffer[: len(block)] = block
        return len(block)


class Lines:
    """Numbers the lines of a file whose parts come in order."""

    def __init__(self) -> None:
        self._before = 0

    def numbered(self, part: FilePart, item: Document | DocumentError) -> Document | DocumentError:
        """Return what was read in a part, with the number of its line in the file if it was named by it."""
        name = item.id if isinstance(item, Document) else item.document
        if not part.lines_of or not name.startswith(f"{part.lines_of}:"):
            return item
        number = int(name.rpartition(":")[2]) + self._before
        if isinstance(item, Document):
            return replace(item, id=f"{part.file.id}:{number}")
        return DocumentError(printable(f"{part.file.id}:{number}"), item.cause.marked, source=item.source)

    def end(self, part: FilePart, end: PartEnd) -> None:
        """Remember how many lines a part had."""
        self._before = end.lines + (self._before if part.start else 0)


def cause_of(error: Exception) -> str:
    """Return why something cannot be read."""
    if isinstance(error, EOFError | zlib.error | BadGzipFile):
        return f"cannot be unpacked ({error}); get the whole file"
    if isinstance(error, ObjectError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return str(error)
