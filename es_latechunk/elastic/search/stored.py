"""Reads every chunk of an index with its vector, document after document, in pages of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from es_latechunk.elastic.index.template import PIECE_VECTOR, PIECES_FIELD, VECTOR_FIELD
from es_latechunk.elastic.point_in_time import PointInTime
from es_latechunk.elastic.search.fetch import chunk_fault
from es_latechunk.types import FloatArray

PAGE = 250  # chunks; a vector of 1,024 numbers is about 12 kB of JSON
PAGE_WITH_PIECES = 50
FIELDS = ("doc_id", "ordinal", "start", "end", "content", "chunk_count", "doc_hash")


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A piece of a chunk as the index holds it; what is None is not there."""

    start: int | None
    end: int | None
    vector: FloatArray | None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as the index holds it; `vector` (dim,) is None if it has none. `pieces` are its pieces, in order.

    `fault` says what shows that another program wrote the document, or is ""; then the fields from `doc_id` to
    `doc_hash` have no meaning.
    """

    index: str
    id: str
    fault: str
    doc_id: str
    ordinal: int
    start: int
    end: int
    content: str
    chunk_count: int | None
    doc_hash: str | None
    vector: FloatArray | None
    pieces: tuple[StoredPiece, ...] = ()


def stored_chunks(source: PointInTime, *, with_pieces: bool = False) -> Iterator[list[StoredChunk]]:
    """Yield all chunks, ordered by index, document and ordinal; documents that other programs wrote come last.

    Their pieces are read only `with_pieces`.
    """
    pieces = [f"{PIECES_FIELD}.{name}" for name in ("start", "end", PIECE_VECTOR)] if with_pieces else []
    body = {
        "size": PAGE_WITH_PIECES if with_pieces else PAGE,
        "sort": [{"_index": "asc"}, {"doc_id": "asc"}, {"ordinal": "asc"}],
        "source": {"includes": list(FIELDS)},
        "fields": [VECTOR_FIELD, *pieces],
    }
    for rows in source.pages(body):
        yield [_read(row) for row in rows]


def _read(row: Mapping[str, Any]) -> StoredChunk:
    source = row.get("_source", {})
    fields = row.get("fields", {})
    values = fields.get(VECTOR_FIELD)
    fault = chunk_fault(row["_id"], source)
    known = {name: source.get(name) for name in FIELDS} if not fault else _NOTHING
    return StoredChunk(
        index=row["_index"],
        id=row["_id"],
        fault=fault,
        vector=None if values is None else np.array(values, dtype=np.float32),
        pieces=tuple(map(_read_piece, fields.get(PIECES_FIELD, ()))),
        **known,
    )


def _read_piece(fields: Mapping[str, Any]) -> StoredPiece:
    [start], [end] = fields.get("start", [None]), fields.get("end", [None])
    values = fields.get(PIECE_VECTOR)
    return StoredPiece(start, end, None if values is None else np.array(values, dtype=np.float32))


_NOTHING: Mapping[str, Any] = {
    "doc_id": "", "ordinal": 0, "start": 0, "end": 0, "content": "", "chunk_count": None, "doc_hash": None
}  # fmt: skip
