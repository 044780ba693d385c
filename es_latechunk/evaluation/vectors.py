"""The chunk vectors of many chunkings and poolings, from one pass of each document through the model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np

from es_latechunk.chunking import token_owner
from es_latechunk.chunking.token_positions import (
    code_points,
    first_visible_characters,
    visible_characters,
)
from es_latechunk.errors import DocumentError
from es_latechunk.evaluation.cache import ArrayCache, Arrays
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.types import (
    ChunkedDocument,
    ChunkSpan,
    Encoder,
    FloatArray,
    IntArray,
    Pooling,
    TokenEncoder,
)

# Increase it when the same text and model give other token vectors: what was kept before is then not found.
CACHE_VERSION = 1


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """The vectors (N, dim) of a document's N chunks, and the seconds that the model took when they were computed."""

    vectors: FloatArray
    seconds: float


class _Unfinished:
    """An encoder whose pooled vectors stay as they are: dense layers and the norm come after the chunks are pooled."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self._encoder = encoder
        self.identity, self.dim, self.tokenizer = encoder.identity, encoder.dim, encoder.tokenizer
        self.window_tokens, self.batch_tokens = encoder.window_tokens, encoder.batch_tokens
        self.encode_documents, self.encode_queries = encoder.encode_documents, encoder.encode_queries
        self.encode_windows = encoder.encode_windows

    def finish(self, pooled: FloatArray) -> FloatArray:
        return pooled


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a document from the model or from the cache: of its smallest spans, or of its chunks."""

    chunked: ChunkedDocument
    rows: FloatArray
    seconds: float


class VectorSource:
    """Computes chunk vectors with one encoder, and keeps what came out of the model in a cache.

    A document goes through the model once for late pooling, whatever the chunkings are: its token vectors are kept as
    float16 (a cosine changes by less than .0001), also within one run, so that a run gives the same figures with and
    without a filled cache. A pooling that reads each chunk alone needs the model once per chunking.
    """

    def __init__(self, encoder: Encoder, cache: ArrayCache) -> None:
        self._encoder = encoder
        self._cache = cache
        self._settings = _settings(encoder)

    def embed(
        self,
        documents: Sequence[Sequence[ChunkedDocument]],
        pooling: Pooling,
    ) -> Iterator[tuple[int, int, EmbeddedDocument] | DocumentError]:
        """Yield the vectors of each document in each chunking, with the numbers of the chunking and of the document.

        `documents` holds, for each chunking, all documents in the same order.
        """
        encoder = self._encoder
        numbers = {chunked.document.id: number for number, chunked in enumerate(documents[0])}
        if pooling == "late" and isinstance(encoder, TokenEncoder):
            split = [smallest_spans(chunked) for chunked in documents[0]]
            for item in self._rows(split, pooling, _Unfinished(encoder)):
                if isinstance(item, DocumentError):
                    yield item
                    continue
                number = numbers[item.chunked.document.id]
                for chunking, cut in enumerate(documents):
                    means = pool_spans(item.chunked, item.rows, cut[number])
                    yield chunking, number, EmbeddedDocument(encoder.finish(means), item.seconds)
            return
        for chunking, cut in enumerate(documents):
            for item in self._rows(cut, pooling, encoder):
                if isinstance(item, DocumentError):
                    yield item
                    continue
                number = numbers[item.chunked.document.id]
                yield chunking, number, EmbeddedDocument(item.rows, item.seconds)

    def embed_queries(self, queries: Sequence[str]) -> FloatArray:
        """Return one vector per query (Q, dim)."""
        key = self._key(["queries", *queries])
        arrays = self._cache.get(key)
        if arrays is None:
            arrays = {"rows": self._encoder.encode_queries(list(queries))}
            self._cache.put(key, arrays)
        rows: FloatArray = arrays["rows"]
        return rows

    def _rows(
        self, documents: Iterable[ChunkedDocument], pooling: Pooling, encoder: Encoder
    ) -> Iterator[_Rows | DocumentError]:
        keys: dict[str, str] = {}

        def missing() -> Iterator[ChunkedDocument | _Rows]:
            for chunked in documents:
                spans = [[span.start, span.end] for span in chunked.spans]
                key = self._key([pooling, spans, chunked.document.text])
                keys[chunked.document.id] = key
                arrays = self._cache.get(key)
                yield chunked if arrays is None else _from_cache(chunked, arrays)

        blocks: list[FloatArray] = []
        seconds = 0.0
        stream = embed_chunks(missing(), encoder=encoder, pooling=pooling)
        while True:
            started = time.perf_counter()
            item = next(stream, None)
            if item is None:
                return
            if not isinstance(item, EmbeddedChunks):
                yield item
                continue
            seconds += time.perf_counter() - started
            blocks.append(_half(item.vectors) if isinstance(encoder, _Unfinished) else item.vectors)
            if item.last:
                rows = np.concatenate(blocks)
                self._cache.put(keys[item.chunked.document.id], {"rows": rows, "seconds": np.array(seconds)})
                yield _Rows(item.chunked, rows.astype(np.float32), seconds)
                blocks, seconds = [], 0.0

    def _key(self, encoded: Sequence[object]) -> str:
        """Name vectors by all that determines them: the model and its settings, and what is encoded in which way."""
        return sha256(json.dumps([CACHE_VERSION, self._settings, *encoded]).encode()).hexdigest()


def _settings(encoder: Encoder) -> dict[str, object]:
    """Return what determines a model's vectors. Precision and engine change them slightly, so they belong to it."""
    irrelevant = {"revision", "folder", *(["model"] if encoder.identity.weights else [])}
    identity = {name: value for name, value in asdict(encoder.identity).items() if name not in irrelevant}
    return {
        **identity,
        "precision": getattr(encoder, "precision", ""),
        "engine": getattr(encoder, "engine", ""),
    }


def _half(rows: FloatArray) -> FloatArray:
    """Return the rows as float16, or unchanged if a value is too large for it."""
    with np.errstate(over="ignore"):
        half = rows.astype(np.float16)
    return half if np.isfinite(half).all() else rows  # type: ignore[return-value]


def _from_cache(chunked: ChunkedDocument, arrays: Arrays) -> _Rows:
    return _Rows(chunked, arrays["rows"].astype(np.float32), float(arrays["seconds"]))


def smallest_spans(chunked: ChunkedDocument) -> ChunkedDocument:
    """Return the document cut into the smallest spans that own a token: no chunk cuts one of them.

    Most hold one token. A character that is several tokens is one span, and so is a token with the whitespace tokens
    after it: `token_owner` never parts these.
    """
    text, tokens = chunked.document.text, chunked.tokens
    _, first = first_visible_characters(visible_characters(code_points(text)), tokens)
    starts = np.unique(first).tolist()
    spans = tuple(ChunkSpan(start, end) for start, end in pairwise([*starts, len(text)]))
    return ChunkedDocument(chunked.document, spans or chunked.spans, tokens)


def pool_spans(small: ChunkedDocument, rows: FloatArray, chunked: ChunkedDocument) -> FloatArray:
    """Return the means (N, hidden) of all tokens of each chunk, from the means (S, hidden) of the smallest spans."""
    text, tokens = chunked.document.text, chunked.tokens
    inner = token_owner(small.spans, text, tokens)
    outer = token_owner(chunked.spans, text, tokens)
    counts = np.bincount(inner, minlength=len(rows)).astype(np.float64)
    owner: IntArray = outer[np.searchsorted(inner, np.arange(len(rows)))]
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    sums = np.add.reduceat(rows * counts[:, None], starts, axis=0)
    return (sums / np.bincount(owner, weights=counts)[:, None]).astype(np.float32)
