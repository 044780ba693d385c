"""All documents cut in each of the ways that are compared, and the vectors of their chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.elastic.write.actions import chunk_id
from es_latechunk.errors import DocumentError
from es_latechunk.evaluation.vectors.source import ReadDocument, Reading, VectorSource
from es_latechunk.late import choose_windows, is_read_once
from es_latechunk.late.combine import blend_rows, mix_rows
from es_latechunk.late.pieces import ChunkRows, count_pieces, join_rows, rows_without_pieces
from es_latechunk.late.title import TitleRun, mix_titles, title_runs
from es_latechunk.types import (
    ChunkedDocument,
    Document,
    Encoder,
    FloatArray,
    PoolingOptions,
    Tokenizer,
    Tokens,
    TokenWeights,
    check_pooling,
)

# Shared windows tear chunks, and those of an index do not. This overlap makes up for it best: see docs/evaluation.md.
SHARED_OVERLAP_SHARE = 4
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ChunkText:
    """What is searched of a chunk."""

    content: str
    title: str = ""
    headings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Chunking:
    """The documents as one encoder's tokenizer, a chunker and a chunk size cut them; chunks are numbered through."""

    encoder: Encoder
    chunker: str
    max_tokens: int
    documents: Sequence[ChunkedDocument]

    def starts(self) -> npt.NDArray[np.intp]:
        """Return the number of the first chunk of each document, and at the end the number of all chunks (D + 1,)."""
        counts = [len(chunked.spans) for chunked in self.documents]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.intp)])

    def ids(self) -> list[str]:
        """Return the `_id` of each chunk, as an index has it."""
        return [
            chunk_id(chunked.document.id, ordinal)
            for chunked in self.documents
            for ordinal in range(len(chunked.spans))
        ]

    def contents(self) -> Iterator[list[ChunkText]]:
        """Yield what a search finds the chunks of each document by."""
        for chunked in self.documents:
            text = chunked.document.text
            title, spans = chunked.document.title, chunked.spans
            yield [
                ChunkText(text[span.start : span.end], title, path)
                for span, path in zip(spans, chunked.headings, strict=True)
            ]

    def titles(self) -> Iterator[list[TitleRun]]:
        """Yield the titles and headings above the chunks of each document."""
        for chunked in self.documents:
            yield list(title_runs(chunked, self.encoder.tokenizer))

    def tokens_read(self, variant: Variant) -> int:
        """Return how many tokens the model reads for all documents; windows read those of their overlap twice."""
        readings = variant.readings(self.encoder)
        total = 0
        if variant.options.embed_title:
            total += sum(len(run.text.tokens) for runs in self.titles() for run in runs)
        for chunked in self.documents:
            count = len(chunked.tokens)
            for reading in readings:
                if reading.alone or reading.windows is None:
                    total += count
                    continue
                plan = reading.windows.plan(count, np.arange(count))
                total += sum(window.end - window.start for window in plan)
                if is_read_once(chunked, reading.windows):
                    break
        return total


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make vectors of chunks: the pooling, and the overlap of the windows (None: the default).

    With `shared` windows, the model reads each document once for all chunkings; the vectors are then not quite those of
    an index.
    """

    options: PoolingOptions
    overlap: int | None = None
    shared: bool = True

    def check(self, encoder: Encoder) -> None:
        """Raise UsageError for what the encoder cannot do."""
        check_pooling(self.options, encoder)
        self.readings(encoder)

    def readings(self, encoder: Encoder) -> list[Reading]:
        """Return the ways in which the model has to read the documents: one, or both for a blend."""
        pieces = self.options.pieces
        alone = Reading(alone=True, windows=choose_windows(encoder), pieces=pieces)
        if self.options.pooling == "naive":
            return [alone]
        windows = choose_windows(encoder, self.overlap, late_window=self.options.late_window)
        if self.shared and self.overlap is None and windows is not None:
            windows = replace(windows, overlap=windows.size // SHARED_OVERLAP_SHARE)
        whole = Reading(alone=False, windows=windows, shared=self.shared, pieces=pieces)
        return [whole, alone] if self.options.pooling == "blend" else [whole]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of all chunks of a chunking, and of their pieces, in one variant, and what computing them cost."""

    variant: Variant
    rows: ChunkRows
    tokens: int
    seconds: float

    @property
    def vector_count(self) -> int:
        """The number of vectors that an index has of them."""
        return len(self.rows) + len(self.rows.pieces)

    def cosines(self, queries: FloatArray) -> FloatArray:
        """Return the cosine (Q, N) of each chunk, or of its best piece, to queries (Q, dim)."""
        if self.variant.options.pieces is None or not len(self.rows):
            cosines: FloatArray = queries @ self.rows.vectors.T
            return cosines
        firsts = np.cumsum(self.rows.counts) - self.rows.counts
        best: FloatArray = np.maximum.reduceat(queries @ self.rows.pieces.T, firsts, axis=1)
        return best


class _Remembering:
    """A tokenizer that keeps the tokens of each text, so that several chunkings tokenize it once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, Tokens] = {}

    def tokenize(self, text: str) -> Tokens:
        if text not in self._known:
            self._known[text] = self._tokenizer.tokenize(text)
        return self._known[text]

    @property
    def pieces(self) -> dict[int, str]:
        return dict(self._tokenizer.pieces)


def cut_documents(
    documents: Sequence[Document],
    *,
    encoders: Sequence[Encoder],
    chunkers: Sequence[str],
    max_tokens: Sequence[int],
    on_progress: OnProgress,
) -> tuple[list[Chunking], list[DocumentError]]:
    """Cut all documents in all ways; a document that cannot be cut in one of them is an error, and left out of all."""
    errors: dict[str, DocumentError] = {}
    cut: list[tuple[Encoder, str, int, list[ChunkedDocument]]] = []
    total = len(encoders) * len(chunkers) * len(max_tokens)
    for encoder in encoders:
        tokenizer = _Remembering(encoder.tokenizer)
        for name in chunkers:
            for size in max_tokens:
                on_progress("chunking", len(cut), total)
                chunker = make_chunker(name, tokenizer=encoder.tokenizer, max_tokens=size)
                chunked = []
                for document in documents:
                    try:
                        chunked.append(chunk_document(document, chunker=chunker, tokenizer=tokenizer))
                    except DocumentError as error:
                        errors.setdefault(document.id, error)
                cut.append((encoder, name, size, chunked))
    on_progress("chunking", total, total)
    chunkings = [
        Chunking(encoder, name, size, [one for one in chunked if one.document.id not in errors])
        for encoder, name, size, chunked in cut
    ]
    return chunkings, list(errors.values())


class ChunkingVectors:
    """The vectors of the chunks of several chunkings of one encoder; the model reads each document as rarely as it can.

    A chunk without a vector, after an error, has a vector of zeros.
    """

    def __init__(
        self,
        chunkings: Sequence[Chunking],
        variants: Sequence[Variant],
        source: VectorSource,
        *,
        on_progress: OnProgress,
    ) -> None:
        self.errors: list[DocumentError] = []
        self._chunkings = chunkings
        self._starts = [chunking.starts() for chunking in chunkings]
        self._read: dict[Reading, list[_ReadChunking]] = {}
        encoder = chunkings[0].encoder
        wanted: dict[Reading, set[TokenWeights]] = {}
        for variant in variants:
            for reading in variant.readings(encoder):
                wanted.setdefault(reading, set()).add(variant.options.token_weights)
        # One reading with pieces gives the vectors of the chunks alone, too.
        self._instead = {replace(reading, pieces=None): reading for reading in wanted if reading.pieces}
        for reading, weights in wanted.items():
            wanted[self._instead.get(reading, reading)] |= weights
        for reading, weights in wanted.items():
            if reading not in self._instead:
                self._read[reading] = self._read_all(reading, sorted(weights), source, on_progress)
        titled = {one.options.token_weights for one in variants if one.options.embed_title}
        # By the weights and the number of the chunking: the vector of the title of each chunk of each document.
        self._titles: dict[tuple[TokenWeights, int], list[FloatArray]] = {}
        for name in sorted(titled):
            self._read_titles(name, source)

    def _read_titles(self, weights: TokenWeights, source: VectorSource) -> None:
        """Read each different title with its headings once for all chunkings."""
        runs = [list(chunking.titles()) for chunking in self._chunkings]
        texts = {run.text.document.text: run.text for cut in runs for own in cut for run in own}
        vectors = dict(zip(texts, source.embed_titles(list(texts.values()), weights), strict=True))
        for number, chunking in enumerate(self._chunkings):
            made = []
            for chunked, own in zip(chunking.documents, runs[number], strict=True):
                found = np.zeros((len(chunked.spans), chunking.encoder.dim), dtype=np.float32)
                for run in own:
                    found[run.first : run.first + run.count] = vectors[run.text.document.text]
                made.append(found)
            self._titles[weights, number] = made

    def _read_all(
        self,
        reading: Reading,
        weights: Sequence[TokenWeights],
        source: VectorSource,
        on_progress: OnProgress,
    ) -> list[_ReadChunking]:
        read = [_ReadChunking(self._zeros(chunking, reading.pieces), weights) for chunking in self._chunkings]
        done, total = 0, len(self._chunkings) * len(self._chunkings[0].documents)
        what = "chunks alone" if reading.alone else "whole documents"
        for item in source.read([chunking.documents for chunking in self._chunkings], reading, weights):
            if isinstance(item, DocumentError):
                self.errors.append(item)
                continue
            chunking, number, found = item
            read[chunking].add(number, found)
            done += 1
            on_progress(what, done, total)
        return read

    def of(self, number: int, variant: Variant) -> Embedded:
        """Return the vectors of the chunking with that number in one of the variants."""
        chunking, options = self._chunkings[number], variant.options
        readings = variant.readings(chunking.encoder)
        parts = [self._read[self._instead.get(reading, reading)][number] for reading in readings]
        documents = []
        for rows in zip(*(part.documents[options.token_weights] for part in parts), strict=True):
            wanted = rows if options.pieces else [rows_without_pieces(one.vectors) for one in rows]
            made = blend_rows(*wanted) if len(wanted) == 2 else wanted[0]
            documents.append(mix_rows(made, options.neighbour_share))
        if options.embed_title:
            titles = self._titles[options.token_weights, number]
            documents = [
                mix_titles(rows, own, options.embed_title)
                for rows, own in zip(documents, titles, strict=True)
            ]
        tokens = chunking.tokens_read(replace(variant, shared=False))
        seconds = sum(part.seconds for part in parts)
        return Embedded(variant, join_rows(documents), tokens, seconds)

    @staticmethod
    def _zeros(chunking: Chunking, pieces: int | None) -> list[ChunkRows]:
        """Return zeros in the place of the vectors of each document."""
        made = []
        for chunked in chunking.documents:
            counts = count_pieces(chunked, pieces)
            chunks, own = (
                np.zeros((count, chunking.encoder.dim), np.float32) for count in (len(counts), counts.sum())
            )
            made.append(ChunkRows(chunks, own, counts))
        return made


class _ReadChunking:
    """The vectors of a chunking's documents from one reading, by token weights; they come in turn."""

    def __init__(self, missing: Sequence[ChunkRows], weights: Sequence[TokenWeights]) -> None:
        self.documents = {name: list(missing) for name in weights}
        self.seconds = 0.0

    def add(self, number: int, found: ReadDocument) -> None:
        """Take the vectors of the document with that number."""
        for name, rows in found.vectors.items():
            self.documents[name][number] = rows
        self.seconds += found.seconds
