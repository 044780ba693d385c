"""The share of a vector that comes from the title and the headings: a chunk often leaves out what it is about.

The title of the document and the headings above a chunk are read as a text of their own, like a chunk that is read
alone, and its vector is mixed into the chunk's. Chunks in a row below the same headings share one such text. Nothing of
it is put into the windows of the document. docs/quality.md says what it is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from es_latechunk.late.pieces import ChunkRows
from es_latechunk.late.pool import l2_normalise
from es_latechunk.types import ChunkedDocument, ChunkSpan, Document, FloatArray, Tokenizer

# A longer title is cut after so many tokens, and so is the whole with its headings: it costs little beside its chunks.
MAX_TITLE_TOKENS, MAX_TOKENS = 32, 64


@dataclass(frozen=True, slots=True)
class TitleRun:
    """The chunks `first` ... `first + count - 1`, and their title and headings as a document of one chunk."""

    first: int
    count: int
    text: ChunkedDocument


def title_runs(chunked: ChunkedDocument, tokenizer: Tokenizer) -> Iterator[TitleRun]:
    """Yield what stands above the chunks of a document, in order; chunks below nothing with a token are left out."""
    title = _readable(chunked.document.title)
    shown_title = _cut(title, MAX_TITLE_TOKENS, tokenizer)
    paths = chunked.headings or ((),) * len(chunked.spans)
    first = 0
    for path, alike in groupby(paths):
        count = len(list(alike))
        headings = [_readable(heading) for heading in path]
        if headings[:1] == [title]:  # as in a Markdown file, whose title is its first heading
            headings = headings[1:]
        shown = _cut(". ".join(filter(None, [shown_title, *headings])), MAX_TOKENS, tokenizer)
        tokens = tokenizer.tokenize(shown)
        if len(tokens):
            document = Document(chunked.document.id, shown, plain_text=True)
            spans = (ChunkSpan(0, len(shown)),)
            yield TitleRun(first, count, ChunkedDocument(document, spans, tokens, ((),)))
        first += count


def _readable(text: str) -> str:
    """Return a text on one line, without halves of surrogate pairs, which no tokenizer reads."""
    return " ".join(text.encode("utf-8", "ignore").decode().split())


def _cut(text: str, most: int, tokenizer: Tokenizer) -> str:
    tokens = tokenizer.tokenize(text)
    return text if len(tokens) <= most else text[: int(tokens.offsets[:most, 1].max())]


def mix_titles(rows: ChunkRows, titles: FloatArray, share: float) -> ChunkRows:
    """Give chunks and pieces a share (0 to 1) of their title: l2_normalise((1 - share) * vector + share * title).

    `titles` (N, dim) has the unit vector of each chunk's title, or zeros for a chunk without one, which stays as it is.
    """
    of_pieces = np.repeat(titles, rows.counts, axis=0)
    return ChunkRows(_mixed(rows.vectors, titles, share), _mixed(rows.pieces, of_pieces, share), rows.counts)


def _mixed(vectors: FloatArray, titles: FloatArray, share: float) -> FloatArray:
    mixed: FloatArray = l2_normalise((1 - share) * vectors + share * titles)
    return np.where(titles.any(axis=1, keepdims=True), mixed, vectors)
