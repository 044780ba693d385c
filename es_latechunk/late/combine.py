"""From the vectors of single passes to the final vectors of a document's chunks: both halves, then the neighbours.

All functions take and return one row per chunk, in the order of the document. The order of the whole way is: weighted
mean of token vectors, the encoder's `finish` (Dense layers, Matryoshka cut, length 1), sum of both halves, share of the
neighbours, share of the title; the vectors have length 1 after each of the last four. A piece of a chunk goes the same
way beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from es_latechunk.late.pieces import ChunkRows, PieceSpans, join_rows, rows_without_pieces
from es_latechunk.late.pool import l2_normalise, mean_by_chunk
from es_latechunk.late.title import mix_titles
from es_latechunk.types import ChunkedDocument, FloatArray, IntArray, PieceVector, PoolingOptions

REACH = 2  # neighbours are the chunks at distance 1 and 2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """What one way of reading a document gives: token `vectors` (T, hidden), their `ids` (T,) and `owner` (T,).

    `owner` is the chunk of each token, in rising order; every chunk has a token.
    """

    vectors: FloatArray
    ids: IntArray
    owner: IntArray


def chunk_vectors(
    options: PoolingOptions,
    *,
    late: TokenVectors | None = None,
    naive: TokenVectors | None = None,
    titles: FloatArray | None = None,
    weights: Callable[[IntArray], FloatArray] | None = None,
    finish: Callable[[FloatArray], FloatArray] = l2_normalise,
) -> FloatArray:
    """Return the vectors (N, dim) of a whole document's chunks, from token vectors that the model has given before.

    `late` is needed for the poolings late and blend, `naive` (the chunks, each read alone, one after the other) for
    naive and blend, and `titles` (N, dim), as for `mix_titles`, for their share. `weights` gives each token id (T,) its
    weight (T,); `finish` is the encoder's. `late_window` of the options has no effect here, as it determined the token
    vectors, and neither have `pieces`.
    """
    wanted = {"late": [late], "naive": [naive], "blend": [late, naive]}[options.pooling]
    parts = []
    for tokens in wanted:
        if tokens is None:
            raise ValueError(f"{options.pooling} pooling needs token vectors that were not given")
        weighed = None if weights is None else weights(tokens.ids)
        parts.append(finish(mean_by_chunk(tokens.vectors, tokens.owner, weighed)))
    vectors = parts[0] if len(parts) == 1 else blend(*parts)
    mixed = mix_neighbours(vectors, options.neighbour_share)
    if not options.embed_title:
        return mixed
    if titles is None:
        raise ValueError("a share of the title needs vectors of the titles, which were not given")
    return mix_titles(rows_without_pieces(mixed), titles, options.embed_title).vectors


def blend(late: FloatArray, naive: FloatArray) -> FloatArray:
    """Return the normalised sums (N, dim) of two unit vectors per chunk."""
    return l2_normalise(late + naive)


def mix_neighbours(vectors: FloatArray, share: float) -> FloatArray:
    """Give each chunk a share (0 to 1) of its neighbours: l2_normalise((1 - share) * vector + share * mean).

    `mean` is the mean of the unit vectors (N, dim) of the chunks at distance 1 and 2 in the same document, as they were
    before. A document of one chunk stays as it is.
    """
    return mix_rows(rows_without_pieces(vectors), share).vectors


def _neighbour_means(vectors: FloatArray) -> FloatArray:
    count = len(vectors)
    sums = np.zeros_like(vectors)
    found = np.zeros((count, 1), dtype=np.float32)
    for distance in range(1, min(REACH, count - 1) + 1):
        sums[distance:] += vectors[:-distance]
        found[distance:] += 1
        sums[:-distance] += vectors[distance:]
        found[:-distance] += 1
    means: FloatArray = sums / found
    return means


def blend_rows(late: ChunkRows, naive: ChunkRows) -> ChunkRows:
    """Do what `blend` does, for chunks and their pieces."""
    return ChunkRows(blend(late.vectors, naive.vectors), blend(late.pieces, naive.pieces), late.counts)


def mix_rows(rows: ChunkRows, share: float) -> ChunkRows:
    """Do what `mix_neighbours` does; a piece gets the same share of the same mean as the chunk that it belongs to."""
    if len(rows) < 2 or not share:
        return rows
    means = _neighbour_means(rows.vectors)
    means_of_pieces = np.repeat(means, rows.counts, axis=0)
    return ChunkRows(
        l2_normalise((1 - share) * rows.vectors + share * means),
        l2_normalise((1 - share) * rows.pieces + share * means_of_pieces),
        rows.counts,
    )


@dataclass(frozen=True, slots=True)
class PooledChunks:
    """`rows` of length 1 of a document's chunks `first` ... `first + N - 1`, from one way of reading it.

    `alone` is True if the model read each chunk alone, False if it read windows of the document. If the document is one
    chunk in one window, it was read in `both` ways at once. If it is the `title_of` some chunks, so many from `first`,
    there is one row, which comes before those of the chunks.
    """

    chunked: ChunkedDocument
    first: int
    rows: ChunkRows
    alone: bool
    both: bool = False
    title_of: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddedChunks:
    """Vectors (N, dim) of a document's chunks `first` ... `first + N - 1`; `last` marks its last block.

    `pieces` holds those of each of these chunks, in order, if the pooling asks for pieces; otherwise it is empty.
    """

    chunked: ChunkedDocument
    first: int
    vectors: FloatArray
    last: bool
    pieces: tuple[tuple[PieceVector, ...], ...] = ()


def combine(pooled: Iterable[PooledChunks | T], options: PoolingOptions) -> Iterator[EmbeddedChunks | T]:
    """Make the final vectors of a stream of documents, each in order; anything else passes through unchanged.

    Blocks of a document follow each other, with no block of another document in between. Only the rows that wait for
    their other half or their neighbours are kept, and the titles of such rows.
    """
    document: _OpenDocument | None = None
    for block in pooled:
        if not isinstance(block, PooledChunks):
            yield block
            continue
        if document is None or document.chunked is not block.chunked:
            document = _OpenDocument(block.chunked, options)
        ready = document.add(block)
        if ready is not None:
            yield ready


class _OpenDocument:
    """A document whose blocks still come."""

    def __init__(self, chunked: ChunkedDocument, options: PoolingOptions) -> None:
        self.chunked = chunked
        self._options = options
        self._halves: dict[bool, list[ChunkRows]] = {
            True: [],
            False: [],
        }  # rows that wait for their other half
        self._titles: deque[PooledChunks] = deque()  # of chunks that are not finished
        self._kept: ChunkRows | None = None  # rows that wait for neighbours, or are neighbours of such
        self._spans = None if options.pieces is None else PieceSpans(chunked, options.pieces)
        self._first = 0  # the ordinal of the first kept row
        self._done = 0  # the number of chunks that are finished

    def add(self, block: PooledChunks) -> EmbeddedChunks | None:
        """Take the rows of a block; return those that are finished now, if there are any."""
        if block.title_of:
            self._titles.append(block)
            return None
        halves = self._options.pooling == "blend" and not block.both
        rows = self._joined(block) if halves else block.rows
        if not len(rows):
            return None
        kept = rows if self._kept is None else join_rows([self._kept, rows])
        known = self._first + len(kept)
        last = known == len(self.chunked.spans)
        share = self._options.neighbour_share
        ready = known if last or not share else known - REACH
        first = min(max(ready - REACH, 0) if share else ready, known)
        finished = None
        if ready > self._done:
            own = mix_rows(kept, share).part(self._done - self._first, ready - self._first)
            if self._titles:
                own = mix_titles(own, self._titles_of(self._done, ready), self._options.embed_title)
            finished = EmbeddedChunks(self.chunked, self._done, own.vectors, last, self._pieces(own))
            kept = kept.part(first - self._first, len(kept))
            self._first, self._done = first, ready
        self._kept = kept
        return finished

    def _titles_of(self, first: int, end: int) -> FloatArray:
        """Return the vectors of the titles of the chunks `first` ... `end - 1`, and forget those of no later chunk."""
        found = np.zeros((end - first, self._titles[0].rows.vectors.shape[1]), dtype=np.float32)
        while self._titles and (title := self._titles[0]).first < end:
            after = title.first + title.title_of
            found[max(title.first - first, 0) : max(after - first, 0)] = title.rows.vectors
            if after > end:
                break
            self._titles.popleft()
        return found

    def _pieces(self, rows: ChunkRows) -> tuple[tuple[PieceVector, ...], ...]:
        if self._spans is None:
            return ()
        return tuple(
            tuple(
                PieceVector(span.start, span.end, vector)
                for span, vector in zip(self._spans.of(ordinal), vectors, strict=True)
            )
            for ordinal, vectors in enumerate(rows.by_chunk(), self._done)
        )

    def _joined(self, block: PooledChunks) -> ChunkRows:
        """Return the sums of the rows whose halves are both there, in order."""
        self._halves[block.alone].append(block.rows)
        if not all(self._halves.values()):
            return block.rows.part(0, 0)
        late, naive = (join_rows(self._halves[alone]) for alone in (False, True))
        both = min(len(late), len(naive))
        self._halves = {False: [late.part(both, len(late))], True: [naive.part(both, len(naive))]}
        return blend_rows(late.part(0, both), naive.part(0, both))
