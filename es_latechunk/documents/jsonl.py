"""JSON Lines: one document a line, each line good or bad by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

from es_latechunk.documents.sources import OnError, shown
from es_latechunk.documents.text import check_text, decode_utf8
from es_latechunk.errors import DocumentError
from es_latechunk.types import ChunkSpan, Document

OWN_KEYS = ("id", "text", "title", "chunks", "metadata")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_jsonl(stream: BinaryIO, file_id: str, on_error: OnError) -> Iterator[Document]:
    """Documents of the lines `{"id", "text", "title", "chunks", ...}`; blank lines are passed over.

    `id` is a string or an integer; without one, it is the file's id and the line's number. `chunks`, where
    given, are the caller's own chunk boundaries, [[start, end], ...] in characters. Any other key, and each
    key of an object named `metadata`, becomes metadata.
    """
    for number, line in enumerate(stream, 1):
        line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        if not line.strip():
            continue
        place = f"{file_id}:{number}"
        try:
            row = json.loads(decode_utf8(line), parse_constant=_refuse, parse_float=_finite)
            yield parse_document(row, place)
        except RecursionError:
            on_error(DocumentError(shown(place), "is nested too deeply; write one flat object a line"))
        except json.JSONDecodeError as error:
            on_error(
                DocumentError(shown(place), f"is not JSON ({error.msg} at column {error.colno}); repair it")
            )
        except ValueError as error:
            on_error(DocumentError(shown(place), str(error)))


def _refuse(constant: str) -> None:
    raise ValueError(f"holds {constant}, which is not JSON; write a number or null")


def _finite(number: str) -> float:
    if math.isinf(float(number)):
        raise ValueError(f"holds a number that is too large ({shown(number)}); write it as a string")
    return float(number)


def parse_document(row: Any, place: str) -> Document:
    """A document from one JSON object; a ValueError says what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError('is not a JSON object; write {"id": "...", "text": "..."}')
    doc_id = _id(row.get("id"), place)
    named = f'(id "{shown(doc_id)}") ' if doc_id != place else ""
    try:
        return _document(doc_id, row)
    except ValueError as error:
        raise ValueError(f"{named}{error}") from error


def _document(doc_id: str, row: dict[str, Any]) -> Document:
    text, title = row.get("text"), row.get("title")
    if not isinstance(text, str):
        raise ValueError(
            'has no "text"' if text is None else f'has a "text" that is no string but {_kind(text)}'
        )
    if title is not None and not isinstance(title, str):
        raise ValueError(f'has a "title" that is no string but {_kind(title)}')
    metadata = _metadata(row)
    check_text(text)
    check_text(json.dumps([doc_id, title, metadata], ensure_ascii=False))
    return Document(doc_id, text, title or "", metadata, _spans(row.get("chunks")))


def _id(value: Any, place: str) -> str:
    if value is None:
        return place
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f'has an "id" that is neither a string nor an integer but {_kind(value)}')
    return str(value)


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    given = row.get("metadata")
    if given is not None and not isinstance(given, dict):
        raise ValueError(f'has "metadata" that is no object but {_kind(given)}')
    others = {key: value for key, value in row.items() if key not in OWN_KEYS}
    return {**(given or {}), **others}


def _spans(value: Any) -> tuple[ChunkSpan, ...] | None:
    if value is None:
        return None
    pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(edge) is int for edge in pair)
        for pair in value
    )
    if not pairs:
        raise ValueError('has "chunks" that are no list of [start, end] pairs of integers')
    return tuple(ChunkSpan(start, end) for start, end in value)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "an empty string" if value == "" else "null")
