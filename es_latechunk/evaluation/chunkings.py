"""All documents cut in each of the ways that are compared, and the vectors of their chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking import chunk_document, make_chunker
from es_latechunk.elastic.write.actions import chunk_id
from es_latechunk.errors import DocumentError
from es_latechunk.evaluation.vectors import VectorSource
from es_latechunk.late import choose_windows
from es_latechunk.types import (
    ChunkedDocument,
    Document,
    Encoder,
    FloatArray,
    Pooling,
    TokenEncoder,
    Tokenizer,
    Tokens,
)

OnProgress = Callable[[str, int, int], None]


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

    def contents(self) -> Iterator[list[str]]:
        """Yield the texts of the chunks of each document."""
        for chunked in self.documents:
            text = chunked.document.text
            yield [text[span.start : span.end] for span in chunked.spans]

    def tokens_read(self, pooling: Pooling) -> int:
        """Return how many tokens the model reads for all documents; windows read those of their overlap twice."""
        counts = [len(chunked.tokens) for chunked in self.documents]
        if pooling == "naive" or not isinstance(self.encoder, TokenEncoder):
            return sum(counts)
        windows = choose_windows(self.encoder)
        plans = (windows.plan(count, np.arange(count)) for count in counts)
        late = sum(window.end - window.start for plan in plans for window in plan)
        return late + sum(counts) if pooling == "blend" else late


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors (N, dim) of all chunks of a chunking by one pooling, and what computing them cost."""

    pooling: Pooling
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


def embed_chunkings(
    chunkings: Sequence[Chunking],
    pooling: Pooling,
    source: VectorSource,
    *,
    on_progress: OnProgress,
) -> tuple[list[Embedded], list[DocumentError]]:
    """Return the vectors of chunkings of one encoder. A chunk without one, after an error, has a vector of zeros."""
    dim = chunkings[0].encoder.dim
    starts = [chunking.starts() for chunking in chunkings]
    vectors = [np.zeros((int(first[-1]), dim), dtype=np.float32) for first in starts]
    seconds = [0.0] * len(chunkings)
    errors: list[DocumentError] = []
    done, total = 0, len(chunkings) * len(chunkings[0].documents)
    for item in source.embed([chunking.documents for chunking in chunkings], pooling):
        if isinstance(item, DocumentError):
            errors.append(item)
            continue
        chunking, number, embedded = item
        vectors[chunking][starts[chunking][number] : starts[chunking][number + 1]] = embedded.vectors
        seconds[chunking] += embedded.seconds
        done += 1
        on_progress(f"{pooling} vectors", done, total)
    return [
        Embedded(pooling, own, chunking.tokens_read(pooling), took)
        for chunking, own, took in zip(chunkings, vectors, seconds, strict=True)
    ], errors
