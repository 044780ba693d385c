"""All documents cut in each of the ways that are compared, and the vectors of their chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.elastic.write.actions import chunk_id
from es_latechunk.errors import DocumentError
from es_latechunk.evaluation.vectors.source import Reading, VectorSource
from es_latechunk.late import choose_windows, is_read_once
from es_latechunk.late.combine import blend, mix_neighbours
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

    def tokens_read(self, readings: Sequence[Reading]) -> int:
        """Return how many tokens the model reads for all documents; windows read those of their overlap twice.

        `readings` are those of `Variant.readings`.
        """
        total = 0
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
        alone = Reading(alone=True, windows=choose_windows(encoder))
        if self.options.pooling == "naive":
            return [alone]
        windows = choose_windows(encoder, self.overlap, late_window=self.options.late_window)
        if self.shared and self.overlap is None and windows is not None:
            windows = replace(windows, overlap=windows.size // SHARED_OVERLAP_SHARE)
        whole = Reading(alone=False, windows=windows, shared=self.shared)
        return [whole, alone] if self.options.pooling == "blend" else [whole]


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors (N, dim) of all chunks of a chunking in one variant, and what computing them cost."""

    variant: Variant
    vectors: FloatArray
    tokens: int
    seconds: float


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
        for reading, weights in wanted.items():
            self._read[reading] = self._read_all(reading, sorted(weights), source, on_progress)

    def _read_all(
        self,
        reading: Reading,
        weights: Sequence[TokenWeights],
        source: VectorSource,
        on_progress: OnProgress,
    ) -> list[_ReadChunking]:
        dim = self._chunkings[0].encoder.dim
        read = [
            _ReadChunking({name: np.zeros((int(first[-1]), dim), dtype=np.float32) for name in weights})
            for first in self._starts
        ]
        done, total = 0, len(self._chunkings) * len(self._chunkings[0].documents)
        what = "chunks alone" if reading.alone else "whole documents"
        for item in source.read([chunking.documents for chunking in self._chunkings], reading, weights):
            if isinstance(item, DocumentError):
                self.errors.append(item)
                continue
            chunking, number, found = item
            rows = slice(self._starts[chunking][number], self._starts[chunking][number + 1])
            for name, vectors in found.vectors.items():
                read[chunking].vectors[name][rows] = vectors
            read[chunking].seconds += found.seconds
            done += 1
            on_progress(what, done, total)
        return read

    def of(self, number: int, variant: Variant) -> Embedded:
        """Return the vectors of the chunking with that number in one of the variants."""
        chunking, options = self._chunkings[number], variant.options
        readings = variant.readings(chunking.encoder)
        parts = [self._read[reading][number] for reading in readings]
        vectors = [part.vectors[options.token_weights] for part in parts]
        made = blend(*vectors) if len(vectors) == 2 else vectors[0]
        if options.neighbour_share:
            documents = np.split(made, self._starts[number][1:-1])
            made = np.concatenate([mix_neighbours(one, options.neighbour_share) for one in documents])
        as_indexed = replace(variant, shared=False).readings(chunking.encoder)
        return Embedded(variant, made, chunking.tokens_read(as_indexed), sum(part.seconds for part in parts))


@dataclass(slots=True)
class _ReadChunking:
    """The vectors (N, dim) of all chunks of a chunking from one reading, by token weights; they are filled in turn."""

    vectors: dict[TokenWeights, FloatArray]
    seconds: float = 0.0
