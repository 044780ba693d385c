"""CSV: one document a row, each row good or bad by itself."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from es_latechunk.documents.encoding import UTF8, DamagedError, decode_as, find_encoding
from es_latechunk.documents.options import Reading
from es_latechunk.documents.sources import shown
from es_latechunk.documents.streams import bounded_lines, too_large
from es_latechunk.documents.text import MARK, check_text
from es_latechunk.errors import DocumentError
from es_latechunk.types import Document

DELIMITERS = (",", ";", "\t")
SAMPLE_BYTES = 1024 * 1024


def read_csv(stream: BinaryIO, file_id: str, reading: Reading) -> Iterator[Document]:
    """Documents of the rows under a header that names the text column; fields may hold line ends.

    The delimiter is the one of comma, semicolon and tab by which the header has that column. The id is the
    id column's, else the file's id and the number of the line on which the row begins. A column "title" is
    the title, the other columns that have a name and a value are metadata.
    """
    csv.field_size_limit(max(csv.field_size_limit(), reading.max_document_bytes))
    lines = _Lines(stream, file_id, reading)
    columns, delimiter = _header(lines, reading.text_field)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_row()
        try:
            row = next(rows)
            if row:
                yield _document(columns, row, f"{file_id}:{lines.row}", reading)
        except StopIteration:
            return
        except csv.Error as error:
            reading.on_error(DocumentError(lines.place, f"is not CSV ({error}, {lines.span}); repair it"))
        except _RowTooLargeError as error:
            # A quote that is never closed, or no CSV: what follows cannot be told from what belongs to it.
            reading.on_error(DocumentError(lines.place, f"{error}; the rest of the file is left out"))
            return
        except ValueError as error:
            reading.on_error(DocumentError(lines.place, str(error)))


class _RowTooLargeError(ValueError):
    """A row has more bytes than a document may have."""


class _Lines:
    """Lines as text, counted, and no more of them for one row than a document may have."""

    def __init__(self, stream: BinaryIO, file_id: str, reading: Reading) -> None:
        self._file_id = file_id
        self._limit = reading.max_document_bytes
        self._size = 0
        self.number, self.row = 0, 1
        stream, encoding = reading.by_lines(stream, file_id)
        lines = bounded_lines(stream, self._limit)
        begin = _begin(lines)
        self._lines = itertools.chain(begin, lines)
        self._encoding = _encoding(b"".join(begin), encoding)
        if self._encoding != UTF8:
            reading.on_encoding(file_id, self._encoding)

    @property
    def place(self) -> str:
        """Where the row begins, in one printable line."""
        return shown(f"{self._file_id}:{self.row}")

    @property
    def span(self) -> str:
        """The lines that the row was taken to have."""
        return f"line {self.row}" if self.number <= self.row else f"lines {self.row} to {self.number}"

    def begin_row(self) -> None:
        self.row, self._size = self.number + 1, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self._size += len(line)
        if self._size > self._limit:
            raise _RowTooLargeError(too_large(self._limit))
        text = decode_as(line, self._encoding)
        return text.removeprefix(MARK) if self.number == 1 else text


def _encoding(begin: bytes, encoding: str | None) -> str:
    try:
        return find_encoding(begin, encoding=encoding)
    except DamagedError:
        return UTF8  # only the rows with the damage are bad


def _begin(lines: Iterable[bytes]) -> list[bytes]:
    """The first lines, enough of them to tell an encoding by."""
    begin, size = [], 0
    for line in lines:
        begin.append(line)
        size += len(line)
        if size > SAMPLE_BYTES:
            break
    return begin


def _header(lines: _Lines, text_field: str) -> tuple[list[str], str]:
    line = next(lines, "")
    for delimiter in DELIMITERS:
        columns = next(csv.reader([line], delimiter=delimiter), [])
        if text_field in columns:
            break
    else:
        columns = next(csv.reader([line]), [])
        raise ValueError(
            f'has no column "{text_field}" but {", ".join(columns) or "none"}; name the text\'s with --text-field'
        )
    twice = {column for column in columns if column and columns.count(column) > 1}
    if twice:
        raise ValueError(f"has two columns of the same name ({', '.join(sorted(twice))}); rename one")
    return columns, delimiter


def _document(columns: list[str], row: list[str], place: str, reading: Reading) -> Document:
    if len(row) != len(columns):
        raise ValueError(f"has {len(row)} fields where the header has {len(columns)}; repair the row")
    fields = {column: value for column, value in zip(columns, row, strict=True) if column and value}
    text = fields.pop(reading.text_field, "")
    check_text(text)
    return Document(fields.pop(reading.id_field, place), text, fields.pop("title", ""), fields)
