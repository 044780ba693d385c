"""Read JSON Lines: one document per line; a bad line does not affect the others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from es_latechunk.documents.encoding import UTF8, decode, decode_as
from es_latechunk.documents.formats.text import check_text
from es_latechunk.documents.options import Reading
from es_latechunk.documents.sources import printable
from es_latechunk.documents.streams import bounded_lines, too_large
from es_latechunk.errors import DocumentError
from es_latechunk.types import ChunkSpan, Document

# Keys that a dead-letter file adds to those of the document.
PAGES_KEY, PLAIN_TEXT_KEY, CAUSE_KEY = "_pages", "_plain_text", "_cause"
OWN_KEYS = ("title", "chunks", "metadata", PAGES_KEY, PLAIN_TEXT_KEY, CAUSE_KEY)
MOST_DIGITS, LONGEST_NUMBER = 4300, 40
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_jsonl(
    stream: BinaryIO, file_id: str, reading: Reading, *, begins_file: bool = True
) -> Iterator[Document | DocumentError]:
    """Yield one document for each line `{"id": ..., "text": ..., ...}`; blank lines are skipped.

    `id` is a string or an integer; without it, the id is that of the file with the number of the line. `chunks` are
    chunk boundaries of the caller, [[start, end], ...] in characters. Any other key, and each key of an object named
    `metadata`, becomes metadata. JSON is UTF-8, so no other encoding is guessed. A line that cannot be used becomes a
    DocumentError. A byte order mark is looked for only where the stream begins with the file.
    """
    encoding = reading.encoding
    if begins_file:
        stream, encoding = reading.by_lines(stream, file_id)
    lines, reported = bounded_lines(stream, reading.max_document_bytes), False
    for number, line in enumerate(lines, 1):
        line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 and begins_file else line
        if not line.strip():
            continue
        location = f"{file_id}:{number}"
        try:
            text, found = _text(line, encoding, reading.max_document_bytes)
            if found != UTF8 and not reported:
                reported = True
                reading.on_encoding(file_id, found)
            row = json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_finite)
            yield parse_document(row, location, reading)
        except RecursionError:
            yield DocumentError(printable(location), "is nested too deeply; write one flat object per line")
        except json.JSONDecodeError as error:
            cause = f"is not JSON ({error.msg} at column {error.colno}); repair it"
            yield DocumentError(printable(location), cause)
        except ValueError as error:
            yield DocumentError(printable(location), str(error))


def _text(line: bytes, encoding: str | None, limit: int) -> tuple[str, str]:
    if len(line) > limit:
        raise ValueError(too_large(limit))
    if encoding is None:
        return decode_as(line, UTF8), UTF8
    text, found = decode(line, encoding=encoding)
    return text, found.name


def _refuse(constant: str) -> None:
    raise ValueError(f"holds {constant}, which is not JSON; write a number or null")


def _integer(number: str) -> int:
    # The limit of newer Pythons, applied to all: reading a longer integer takes time quadratic in its length.
    if len(number.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"holds an integer of {len(number.lstrip('-')):,} digits; write it as a string")
    return int(number)


def _finite(number: str) -> float:
    if math.isinf(float(number)):
        written = number if len(number) <= LONGEST_NUMBER else f"{number[:LONGEST_NUMBER]}..."
        raise ValueError(f"holds a number that is too large ({written}); write it as a string")
    return float(number)


def parse_document(row: Any, location: str, reading: Reading) -> Document:
    """Return the document of one JSON object; a ValueError says what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError('is not a JSON object; write {"id": "...", "text": "..."}')
    doc_id = _id(row.get(reading.id_field), location)
    named = f'(id "{printable(doc_id)}") ' if doc_id != location else ""
    try:
        return _document(doc_id, row, reading)
    except ValueError as error:
        raise ValueError(f"{named}{error}") from error


def _document(doc_id: str, row: dict[str, Any], reading: Reading) -> Document:
    text, title = row.get(reading.text_field), row.get("title")
    if not isinstance(text, str):
        name = printable(reading.text_field)
        raise ValueError(
            f'has no "{name}"' if text is None else f'has a "{name}" that is not a string but {_kind(text)}'
        )
    if title is not None and not isinstance(title, str):
        raise ValueError(f'has a "title" that is not a string but {_kind(title)}')
    metadata = _metadata(row, reading)
    check_text(text)
    check_text(json.dumps([doc_id, title, metadata], ensure_ascii=False))
    return Document(
        doc_id,
        text,
        title or "",
        metadata,
        _spans(row.get("chunks")),
        _pages(row.get(PAGES_KEY, [])),
        row.get(PLAIN_TEXT_KEY) is True,
    )


def _id(value: Any, location: str) -> str:
    if value is None:
        return location
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f'has an "id" that is neither a string nor an integer but {_kind(value)}')
    return str(value)


def _metadata(row: dict[str, Any], reading: Reading) -> dict[str, Any]:
    given = row.get("metadata")
    if given is not None and not isinstance(given, dict):
        raise ValueError(f'has "metadata" that is not an object but {_kind(given)}')
    own = (*OWN_KEYS, reading.id_field, reading.text_field)
    others = {key: value for key, value in row.items() if key not in own}
    return {**(given or {}), **others}


def _spans(value: Any) -> tuple[ChunkSpan, ...] | None:
    if value is None:
        return None
    pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(edge) is int for edge in pair)
        for pair in value
    )
    if not pairs:
        raise ValueError('has "chunks" that are not a list of [start, end] pairs of integers')
    return tuple(ChunkSpan(start, end) for start, end in value)


def _pages(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(start) is int for start in value):
        raise ValueError(f'has "{PAGES_KEY}" that are not a list of integers')
    return tuple(value)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null" if value is None else "a string" if value else "an empty string")
