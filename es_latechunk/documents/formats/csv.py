"""Read CSV: one document per row; a bad row does not affect the others."""

from __future__ import annotations

import csv
import itertools
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from es_latechunk.documents.encoding import UTF8, DamagedError, FoundEncoding, decode_as, find_encoding
from es_latechunk.documents.formats.text import MARK, check_text
from es_latechunk.documents.options import Reading
from es_latechunk.documents.sources import printable
from es_latechunk.documents.streams import bounded_csv_lines, too_large
from es_latechunk.errors import DocumentError, setting
from es_latechunk.types import Document

DELIMITERS = (",", ";", "\t")
SAMPLE_BYTES = 1024 * 1024
LONGEST_LIST = 200


def read_csv(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document | DocumentError]:
    """Yield one document per row below a header that names the text column; a field may contain line ends.

    Lines end in LF, CR LF or CR. The delimiter is a comma, semicolon or tab, whichever splits the header so that it
    has the text column. The id comes from the id column; without it, it is the file's id and the number of the line
    on which the row begins. A column "title" is the title, and every other column with a name and a value is
    metadata. A row that cannot be used becomes a DocumentError.
    """
    lines = _Lines(stream, file_id, reading)
    columns, delimiter = _header(lines, reading)
    check_columns(columns, reading)
    rows = _Rows(lines, delimiter, reading)
    while True:
        lines.begin_row()
        try:
            row = next(rows)
            if row:
                yield _document(columns, row, f"{file_id}:{lines.row}", reading)
        except StopIteration:
            return
        except csv.Error as error:
            yield DocumentError(lines.location, f"is not CSV ({error}, {lines.span}); repair it")
        except _RowTooLargeError as error:
            # The quote is never closed, or this is no CSV: nothing says where the next row begins.
            yield DocumentError(lines.location, f"{error}; the rest of the file is left out")
            return
        except ValueError as error:
            yield DocumentError(lines.location, str(error))


class _Rows:
    """The rows of the csv module, with fields as long as a document may be.

    The module has one limit for the whole process, so it is restored after each row.
    """

    _lock = threading.Lock()

    def __init__(self, lines: _Lines, delimiter: str, reading: Reading) -> None:
        self._rows = csv.reader(lines, delimiter=delimiter, strict=True)
        self._limit = reading.max_document_bytes

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> list[str]:
        with self._lock:
            before = csv.field_size_limit()
            csv.field_size_limit(max(before, self._limit))
            try:
                return next(self._rows)
            finally:
                csv.field_size_limit(before)


class _RowTooLargeError(ValueError):
    """A row has more bytes than a document may have."""


class _Lines:
    """The lines of a file as text, with their numbers; one row may not have more bytes than a document.

    The lines of the current row are kept, so that the header can be read again with another delimiter.
    """

    def __init__(self, stream: BinaryIO, file_id: str, reading: Reading) -> None:
        self._file_id = file_id
        self._limit = reading.max_document_bytes
        self._taken: list[bytes] = []
        self._size = 0
        self.number, self.row = 0, 1
        stream, encoding = reading.by_lines(stream, file_id)
        lines = bounded_csv_lines(stream, self._limit)
        begin = _begin(lines)
        self._lines: Iterator[bytes] = itertools.chain(begin, lines)
        found = _encoding(b"".join(begin), encoding)
        reading.tell_encoding(file_id, found)
        self._encoding = found.name

    @property
    def location(self) -> str:
        """The file and the line where the row begins, as one printable line."""
        return printable(f"{self._file_id}:{self.row}")

    @property
    def span(self) -> str:
        """The lines of the current row, in words."""
        return f"line {self.row}" if self.number <= self.row else f"lines {self.row} to {self.number}"

    def begin_row(self) -> None:
        self.row, self._size, self._taken = self.number + 1, 0, []

    def rewind_row(self) -> None:
        """Go back to the beginning of the current row."""
        self._lines = itertools.chain(self._taken, self._lines)
        self.number -= len(self._taken)
        self._size, self._taken = 0, []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self._size += len(line)
        self._taken.append(line)
        if self._size > self._limit:
            raise _RowTooLargeError(too_large(self._limit))
        text = decode_as(line, self._encoding)
        return text.removeprefix(MARK) if self.number == 1 else text


def _encoding(begin: bytes, encoding: str | None) -> FoundEncoding:
    try:
        return find_encoding(begin, encoding=encoding)
    except DamagedError:
        return FoundEncoding(UTF8)  # the damaged rows fail, and the others can be read


def _begin(lines: Iterable[bytes]) -> list[bytes]:
    """Return the first lines, enough to detect an encoding."""
    begin, size = [], 0
    for line in lines:
        begin.append(line)
        size += len(line)
        if size > SAMPLE_BYTES:
            break
    return begin


def _header(lines: _Lines, reading: Reading) -> tuple[list[str], str]:
    """Return the names of the columns, and the delimiter with which they include the text column, if one does."""
    most: list[str] = []
    fault: csv.Error | None = None
    for delimiter in DELIMITERS:
        lines.rewind_row()
        try:
            columns = next(_Rows(lines, delimiter, reading), [])
        except csv.Error as error:
            fault = fault or error
            continue
        if reading.text_field in columns:
            return columns, delimiter
        most = max(most, columns, key=len)
    if fault and len(most) < 2:
        raise ValueError(f"is not CSV ({fault}, in its header); repair it") from fault
    return most, DELIMITERS[0]


def check_columns(columns: list[str], reading: Reading) -> None:
    """Raise a ValueError if none of the columns contains the text, or two have the same name."""
    if reading.text_field not in columns:
        raise ValueError(
            f'has no column "{printable(reading.text_field)}" (columns: {_listed(columns)}); name the column that '
            f"contains the text with {setting('text_field')}"
        )
    twice = {column for column in columns if column and columns.count(column) > 1}
    if twice:
        raise ValueError(f"has two columns of the same name ({_listed(sorted(twice))}); rename one")


def _listed(columns: list[str]) -> str:
    """Return the names of columns as one printable line; cut, because a file may be one long line."""
    names = printable(", ".join(columns)[: LONGEST_LIST + 1]) or "none"
    return names if len(names) <= LONGEST_LIST else f"{names[:LONGEST_LIST]}..."


def _document(columns: list[str], row: list[str], location: str, reading: Reading) -> Document:
    if len(row) != len(columns):
        raise ValueError(f"has {len(row)} fields where the header has {len(columns)}; repair the row")
    fields = {column: value for column, value in zip(columns, row, strict=True) if column and value}
    text = fields.pop(reading.text_field, "")
    check_text(text)
    return Document(fields.pop(reading.id_field, location), text, fields.pop("title", ""), fields)
