"""Bulk actions for chunks: pure functions that turn values into the bytes of a bulk request."""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from es_latechunk.elastic.index.metadata import TYPED, typed_copies, types_of
from es_latechunk.elastic.index.template import CONTEXT_FIELDS, HEADINGS, PIECE_VECTOR, PIECES_FIELD
from es_latechunk.errors import DocumentError
from es_latechunk.types import ChunkedDocument, FloatArray, PieceVector

ID_BYTES = 512  # Elasticsearch's limit for _id


@dataclass(frozen=True, slots=True)
class Action:
    """One operation of a bulk request, as its NDJSON lines without the last line end."""

    id: str
    doc_id: str
    lines: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return sum(len(line) + 1 for line in self.lines)

    @property
    def deletes(self) -> bool:
        return len(self.lines) == 1


def chunk_id(doc_id: str, ordinal: int) -> str:
    """Return the `_id` of a chunk."""
    return f"{doc_id}#{ordinal}"


def check_document(chunked: ChunkedDocument, metadata_types: Mapping[str, str]) -> None:
    """Raise a DocumentError if Elasticsearch would refuse one of the document's chunks.

    Either the `_id` of the last chunk is too long, or a value of the metadata does not fit the type that the index has
    for it.
    """
    document = chunked.document
    size = len(chunk_id(document.id, len(chunked.spans) - 1).encode())
    if size > ID_BYTES:
        raise DocumentError(
            f"{document.id[:60]}...",
            f"its id gives an _id of {size} bytes, Elasticsearch accepts {ID_BYTES}; shorten it",
        )
    pages = {"page": len(document.pages)} if document.pages else {}
    typed_copies(document.id, {**document.metadata, **pages}, metadata_types)


def index_actions(
    chunked: ChunkedDocument,
    first: int,
    vectors: FloatArray,
    *,
    doc_hash: str,
    packed: bool,
    fields: Mapping[str, Any],
    pieces: Sequence[Sequence[PieceVector]],
) -> Iterator[Action]:
    """Yield the actions that write the chunks from `first` on with their `vectors` (N, dim).

    `pieces` are those of each of these chunks, or empty. `fields` are those of the index. If it has them, the
    neighbours' words are added (`neighbours_1` holds those of the chunks at distance 1, `neighbours_2` those of the
    chunks at distance 2), the heading path, and the keys of the metadata that it holds as other types than strings too.
    `packed` sends a vector as base64 of big-endian float32, which Elasticsearch accepts since 9.3.
    """
    document = chunked.document
    metadata_types = types_of(fields)
    for ordinal, vector in enumerate(vectors, first):
        span = chunked.spans[ordinal]
        # The page (from 1) on which the chunk begins, if the document has pages.
        page = {"page": bisect_right(document.pages, span.start)} if document.pages else {}
        source: dict[str, Any] = {
            "content": document.text[span.start : span.end],
            "content_embedding": _vector_source(vector, packed),
            "doc_id": document.id,
            "ordinal": ordinal,
            "chunk_count": len(chunked.spans),
            "start": span.start,
            "end": span.end,
            "title": document.title,
            "metadata": {**document.metadata, **page},
            "doc_hash": doc_hash,
        }
        if pieces:
            source[PIECES_FIELD] = [_piece_source(piece, packed) for piece in pieces[ordinal - first]]
        if typed := typed_copies(document.id, source["metadata"], metadata_types):
            source[TYPED] = typed
        for distance, field in enumerate(CONTEXT_FIELDS, 1):
            if field in fields:
                source[field] = neighbour_text(chunked, ordinal, distance)
        if HEADINGS in fields and chunked.headings:
            source[HEADINGS] = list(chunked.headings[ordinal])
        identifier = chunk_id(document.id, ordinal)
        yield Action(identifier, document.id, (_json({"index": {"_id": identifier}}), _json(source)))


def _piece_source(piece: PieceVector, packed: bool) -> dict[str, Any]:
    return {"start": piece.start, "end": piece.end, PIECE_VECTOR: _vector_source(piece.vector, packed)}


def _vector_source(vector: FloatArray, packed: bool) -> str | list[float]:
    return pack_vector(vector) if packed else vector.tolist()


def neighbour_text(chunked: ChunkedDocument, ordinal: int, distance: int) -> list[str]:
    """Return the texts of the chunks at `distance` before and after a chunk, as far as they exist."""
    ordinals = (ordinal - distance, ordinal + distance)
    spans = [chunked.spans[other] for other in ordinals if 0 <= other < len(chunked.spans)]
    return [chunked.document.text[span.start : span.end] for span in spans]


def delete_actions(doc_id: str, first: int, last: int) -> Iterator[Action]:
    """Yield the actions that delete the chunks from `first` to `last`, both included."""
    for ordinal in range(first, last + 1):
        identifier = chunk_id(doc_id, ordinal)
        yield Action(identifier, doc_id, (_json({"delete": {"_id": identifier}}),))


def pack_vector(vector: FloatArray) -> str:
    """Encode a vector (dim,) as base64 of its float32 values in big-endian order."""
    return base64.b64encode(np.asarray(vector, dtype=">f4").tobytes()).decode("ascii")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
