"""Pieces of a chunk: consecutive tokens of about equal number, each pooled to a vector of its own.

A question is often about one sentence of a chunk, whose vector has to stand for all of them. So the chunk can have a
vector for each of its pieces besides its own, from the same pass through the model. docs/quality.md says what that is
worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from es_latechunk.chunking import token_owner
from es_latechunk.chunking.chunkers import trimmed
from es_latechunk.types import ChunkedDocument, ChunkSpan, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a text, numbered through: `owner` (T,) is the piece of each token, in rising order.

    Chunk n has the pieces edges[n] ... edges[n + 1] - 1; `edges` is (N + 1,).
    """

    owner: IntArray
    edges: IntArray


def cut_pieces(owner: IntArray, size: int) -> Pieces:
    """Cut each chunk into as few pieces of at most `size` tokens as possible; in a chunk they differ by at most one.

    `owner` (T,) is the chunk of each token, in rising order; every chunk has a token.
    """
    tokens = np.bincount(owner)
    counts = -(-tokens // size)  # ceiling
    edges = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(len(owner)) - np.repeat(np.cumsum(tokens) - tokens, tokens)
    pieces = edges[owner] + place * counts[owner] // tokens[owner]
    return Pieces(pieces.astype(np.int32), edges.astype(np.int32))


def cut_document(chunked: ChunkedDocument, size: int) -> Pieces:
    """Return the pieces of a document's chunks."""
    return cut_pieces(token_owner(chunked.spans, chunked.document.text, chunked.tokens), size)


def count_pieces(chunked: ChunkedDocument, size: int | None) -> IntArray:
    """Return how many pieces of at most `size` tokens each chunk has (N,): none if it is None."""
    if size is None:
        return np.zeros(len(chunked.spans), dtype=np.int32)
    return np.diff(cut_document(chunked, size).edges)


class PieceSpans:
    """The spans of the pieces of a document's chunks, in characters."""

    def __init__(self, chunked: ChunkedDocument, size: int) -> None:
        self._chunked = chunked
        pieces = cut_document(chunked, size)
        self._edges = pieces.edges
        self._starts = np.flatnonzero(np.diff(pieces.owner, prepend=-1))  # the first token of each piece

    def of(self, ordinal: int) -> list[ChunkSpan]:
        """Return the spans of the pieces of one chunk, in order, each from its first token to its last one.

        They lie inside of the chunk, without whitespace at their ends. Only a character of several tokens may be in two
        of them, and one that is no token in none.
        """
        chunk, text = self._chunked.spans[ordinal], self._chunked.document.text
        offsets = self._chunked.tokens.offsets
        spans = []
        for piece in range(self._edges[ordinal], self._edges[ordinal + 1]):
            first = int(self._starts[piece])
            end = int(self._starts[piece + 1]) if piece + 1 < len(self._starts) else len(offsets)
            reach = int(offsets[first:end, 1].max())
            spans.append(trimmed(text, max(chunk.start, int(offsets[first, 0])), min(chunk.end, reach)))
        return spans


def spread_evenly(tokens: int, count: int, *, before: int) -> Pieces:
    """Cut a chunk of `tokens` tokens into `count` pieces, as `cut_pieces` does; `before` others join the first one."""
    pieces = np.concatenate([np.zeros(before, dtype=int), np.arange(tokens) * count // tokens])
    return Pieces(pieces.astype(np.int32), np.array([0, count], dtype=np.int32))


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """Vectors (N, dim) of N chunks in order, and those of their `pieces` (P, dim), of which chunk n has `counts[n]`.

    Without pieces, P and all counts are 0.
    """

    vectors: FloatArray
    pieces: FloatArray
    counts: IntArray

    def __len__(self) -> int:
        return len(self.vectors)

    def part(self, first: int, end: int) -> ChunkRows:
        """Return the rows of the chunks `first` ... `end - 1`, counted in these rows."""
        edges = np.concatenate([[0], np.cumsum(self.counts)])
        pieces = self.pieces[edges[first] : edges[end]]
        return ChunkRows(self.vectors[first:end], pieces, self.counts[first:end])

    def by_chunk(self) -> tuple[FloatArray, ...]:
        """Return the vectors of each chunk's pieces; () without pieces."""
        if not len(self.pieces):
            return ()
        return tuple(np.split(self.pieces, np.cumsum(self.counts)[:-1]))


def rows_without_pieces(vectors: FloatArray) -> ChunkRows:
    """Return the rows of chunks that have a vector (N, dim) each, and no pieces."""
    return ChunkRows(vectors, vectors[:0], np.zeros(len(vectors), dtype=np.int32))


def join_rows(parts: Sequence[ChunkRows]) -> ChunkRows:
    """Return the rows of several groups of chunks as one."""
    if len(parts) == 1:
        return parts[0]
    return ChunkRows(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.pieces for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )
