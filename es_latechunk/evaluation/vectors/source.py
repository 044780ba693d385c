"""The chunk vectors of many chunkings and token weights, from few passes of each document through the model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking import token_owner
from es_latechunk.chunking.token_positions import (
    code_points,
    first_visible_characters,
    visible_characters,
)
from es_latechunk.errors import DocumentError, raise_errors
from es_latechunk.evaluation.vectors.cache import ArrayCache, Arrays
from es_latechunk.late import EmbeddedChunks, SifWeights, Windows, embed_chunks
from es_latechunk.late.pieces import ChunkRows, count_pieces, cut_pieces, rows_without_pieces
from es_latechunk.types import (
    ChunkedDocument,
    ChunkSpan,
    Encoder,
    FloatArray,
    IntArray,
    PoolingOptions,
    TokenEncoder,
    TokenWeights,
)

# Increase it when the same text and model give other token vectors: what was kept before is then not found.
CACHE_VERSION = 2
WEIGHED = "means by sif"  # the means of token vectors, of weighed ones, and of the weights

Doubles = npt.NDArray[np.float64]
Means = Mapping[TokenWeights, ChunkRows]


@dataclass(frozen=True, slots=True)
class Reading:
    """One way in which the model reads documents: each chunk `alone`, or `windows` over the whole document.

    Windows that are `shared` end anywhere, so that one pass serves all chunkings; else they end between chunks, as
    those of an index do. A hosted model has windows of its own (None). With `pieces`, there are means of the pieces of
    at most so many tokens too.
    """

    alone: bool
    windows: Windows | None
    shared: bool = False
    pieces: int | None = None


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """The unit vectors of a document's chunks and pieces by token weights, and the seconds that the model took."""

    vectors: Mapping[TokenWeights, ChunkRows]
    seconds: float


class _Unfinished:
    """An encoder whose pooled vectors stay as they are: dense layers and the norm come after the chunks are pooled.

    With `weigh`, it gives each token vector as it is, the same times its weight, and then the weight alone. The mean of
    the second by the mean of the third is the weighted mean, so that one pass serves both.
    """

    def __init__(self, encoder: TokenEncoder, weigh: SifWeights | None = None) -> None:
        self._encoder = encoder
        self._weigh = weigh
        self.identity, self.dim, self.tokenizer = encoder.identity, encoder.dim, encoder.tokenizer
        self.window_tokens, self.batch_tokens = encoder.window_tokens, encoder.batch_tokens
        self.encode_documents, self.encode_queries = encoder.encode_documents, encoder.encode_queries

    def encode_windows(self, windows: Sequence[IntArray]) -> list[FloatArray]:
        read = self._encoder.encode_windows(windows)
        if self._weigh is None:
            return read
        weights = [self._weigh(ids)[:, None] for ids in windows]
        return [np.hstack([one, one * weight, weight]) for one, weight in zip(read, weights, strict=True)]

    def finish(self, pooled: FloatArray) -> FloatArray:
        return pooled


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a document from the model or from the cache; `name` says whether of its smallest spans or its chunks.

    With chunks come their `pieces`, if the reading has any.
    """

    chunked: ChunkedDocument
    name: str
    rows: FloatArray
    pieces: FloatArray
    seconds: float


class VectorSource:
    """Computes chunk vectors with one encoder, and keeps what came out of the model in a cache.

    With shared windows, a document goes through the model once, whatever the chunkings are: its token vectors are kept
    as float16 (a cosine changes by less than .0001), also within one run, so that a run gives the same figures with
    and without a filled cache. Chunks that are read alone, or in windows of their own, need the model once per
    chunking, and their means are kept. Means that were weighed also are read in place of plain ones.
    """

    def __init__(self, encoder: Encoder, cache: ArrayCache) -> None:
        self._encoder = encoder
        self._cache = cache
        self._settings = _settings(encoder)

    def read(
        self,
        documents: Sequence[Sequence[ChunkedDocument]],
        reading: Reading,
        token_weights: Sequence[TokenWeights],
    ) -> Iterator[tuple[int, int, ReadDocument] | DocumentError]:
        """Yield each document in each chunking as the model reads it, with the numbers of the chunking and document.

        `documents` holds, for each chunking, all documents in the same order.
        """
        encoder = self._encoder
        numbers = {chunked.document.id: number for number, chunked in enumerate(documents[0])}
        if not isinstance(encoder, TokenEncoder):
            for chunking, cut in enumerate(documents):
                for item in self._rows(cut, reading, encoder, [""]):
                    if isinstance(item, DocumentError):
                        yield item
                    else:
                        number = numbers[item.chunked.document.id]
                        rows = rows_without_pieces(item.rows)
                        yield chunking, number, ReadDocument({"none": rows}, item.seconds)
            return
        weigh = SifWeights(encoder.tokenizer) if "sif" in token_weights else None
        read = self._shared_windows if reading.shared else self._by_chunking
        for found in read(documents, reading, encoder, weigh):
            if isinstance(found, DocumentError):
                yield found
                continue
            chunking, item, means = found
            vectors = {name: _finished(means[name], encoder) for name in token_weights}
            yield chunking, numbers[item.chunked.document.id], ReadDocument(vectors, item.seconds)

    def _shared_windows(
        self,
        documents: Sequence[Sequence[ChunkedDocument]],
        reading: Reading,
        encoder: TokenEncoder,
        weigh: SifWeights | None,
    ) -> Iterator[tuple[int, _Rows, Means] | DocumentError]:
        """Yield the means of each document's chunks; one pass serves all chunkings and weights."""
        numbers = {chunked.document.id: number for number, chunked in enumerate(documents[0])}
        split = (smallest_spans(chunked) for chunked in documents[0])
        for item in self._rows(split, reading, _Unfinished(encoder), ["tokens"]):
            if isinstance(item, DocumentError):
                yield item
                continue
            ids = item.chunked.tokens.ids
            weights: dict[TokenWeights, FloatArray | None] = {"none": None}
            if weigh is not None:
                weights["sif"] = weigh(ids)
            for chunking, cut in enumerate(documents):
                chunked = cut[numbers[item.chunked.document.id]]
                yield (
                    chunking,
                    item,
                    {
                        name: pool_chunks(item.chunked, item.rows, chunked, reading.pieces, own)
                        for name, own in weights.items()
                    },
                )

    def _by_chunking(
        self,
        documents: Sequence[Sequence[ChunkedDocument]],
        reading: Reading,
        encoder: TokenEncoder,
        weigh: SifWeights | None,
    ) -> Iterator[tuple[int, _Rows, Means] | DocumentError]:
        """Yield the means of each document's chunks; one pass for each chunking serves all weights."""
        for chunking, cut in enumerate(documents):
            names = ["means", WEIGHED] if weigh is None else [WEIGHED]
            for item in self._rows(cut, reading, _Unfinished(encoder, weigh), names):
                if isinstance(item, DocumentError):
                    yield item
                    continue
                counts = count_pieces(item.chunked, reading.pieces)
                of_chunks, of_pieces = (
                    _by_weights(rows, weighed=item.name == WEIGHED) for rows in (item.rows, item.pieces)
                )
                yield (
                    chunking,
                    item,
                    {name: ChunkRows(rows, of_pieces[name], counts) for name, rows in of_chunks.items()},
                )

    def embed_queries(self, queries: Sequence[str]) -> FloatArray:
        """Return one vector per query (Q, dim)."""
        key = self._key(["queries", *queries])
        arrays = self._cache.get(key)
        if arrays is None:
            arrays = {"rows": self._encoder.encode_queries(list(queries))}
            self._cache.put(key, arrays)
        rows: FloatArray = arrays["rows"]
        return rows

    def embed_titles(self, titles: Sequence[ChunkedDocument], weights: TokenWeights) -> FloatArray:
        """Return one vector per title (N, dim), as `embed_chunks` makes it."""
        key = self._key(["titles", weights, *(title.document.text for title in titles)])
        arrays = self._cache.get(key)
        if arrays is None:
            pooling = PoolingOptions("naive", weights)
            blocks = raise_errors(embed_chunks(titles, encoder=self._encoder, pooling=pooling))
            rows = [block.vectors for block in blocks]
            arrays = {"rows": np.concatenate([*rows, np.zeros((0, self._encoder.dim), np.float32)])}
            self._cache.put(key, arrays)
        found: FloatArray = arrays["rows"]
        return found

    def _rows(
        self, documents: Iterable[ChunkedDocument], reading: Reading, encoder: Encoder, names: Sequence[str]
    ) -> Iterator[_Rows | DocumentError]:
        """Yield the rows of each document: those that are kept under one of the names, or new ones, of the first."""
        keys: dict[str, str] = {}
        windows = None if reading.windows is None else asdict(reading.windows)
        pieces = None if names[0] == "tokens" else reading.pieces  # they are pooled from the tokens

        def missing() -> Iterator[ChunkedDocument | _Rows]:
            for chunked in documents:
                spans = [[span.start, span.end] for span in chunked.spans]
                for name in reversed(names):
                    parts = [] if pieces is None else [pieces]
                    key = self._key([name, reading.alone, windows, spans, chunked.document.text, *parts])
                    arrays = self._cache.get(key)
                    if arrays is not None:
                        yield _as_rows(chunked, name, arrays)
                        break
                else:
                    keys[chunked.document.id] = key
                    yield chunked

        blocks: list[FloatArray] = []
        of_pieces: list[FloatArray] = []
        seconds = 0.0
        pooling = PoolingOptions("naive" if reading.alone else "late", pieces=pieces)
        stream = embed_chunks(missing(), encoder=encoder, pooling=pooling, windows=reading.windows)
        while True:
            started = time.perf_counter()
            item = next(stream, None)
            if item is None:
                return
            if not isinstance(item, EmbeddedChunks):
                yield item
                continue
            seconds += time.perf_counter() - started
            blocks.append(_half(item.vectors) if names[0] == "tokens" else item.vectors)
            of_pieces += [piece.vector for own in item.pieces for piece in own]
            if item.last:
                arrays = {"rows": np.concatenate(blocks), "seconds": np.array(seconds)}
                if of_pieces:
                    arrays["pieces"] = np.stack(of_pieces)
                self._cache.put(keys[item.chunked.document.id], arrays)
                yield _as_rows(item.chunked, names[0], arrays)
                blocks, of_pieces, seconds = [], [], 0.0

    def _key(self, encoded: Sequence[object]) -> str:
        """Name vectors by all that determines them: the model and its settings, and what is encoded in which way."""
        return sha256(json.dumps([CACHE_VERSION, self._settings, *encoded]).encode()).hexdigest()


def _settings(encoder: Encoder) -> dict[str, object]:
    """Return what determines a model's vectors. Precision and engine change them slightly, so they belong to it."""
    irrelevant = encoder.identity.fields_of_origin()
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


def _as_rows(chunked: ChunkedDocument, name: str, arrays: Arrays) -> _Rows:
    rows = arrays["rows"].astype(np.float32)
    return _Rows(chunked, name, rows, arrays.get("pieces", rows[:0]), float(arrays["seconds"]))


def _finished(means: ChunkRows, encoder: TokenEncoder) -> ChunkRows:
    return ChunkRows(encoder.finish(means.vectors), encoder.finish(means.pieces), means.counts)


def _by_weights(rows: FloatArray, *, weighed: bool) -> dict[TokenWeights, FloatArray]:
    """Return the plain means, and the weighted ones if `_Unfinished` gave what they are made of."""
    if not weighed:
        return {"none": rows}
    size = rows.shape[1] // 2
    plain, weighted, weight = np.split(rows, [size, 2 * size], axis=1)
    return {"none": plain, "sif": weighted / weight}


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


def pool_chunks(
    small: ChunkedDocument,
    rows: FloatArray,
    chunked: ChunkedDocument,
    pieces: int | None = None,
    weights: FloatArray | None = None,
) -> ChunkRows:
    """Return the means of the tokens of each chunk and its pieces, from the means (S, hidden) of the smallest spans.

    `weights` (T,) are those of the document's tokens; those of one span are added up.
    """
    text, tokens = chunked.document.text, chunked.tokens
    inner = token_owner(small.spans, text, tokens)
    outer = token_owner(chunked.spans, text, tokens)
    each = np.bincount(inner, weights=weights, minlength=len(rows)).astype(np.float64)
    chunks = _pooled(rows, each, outer[np.searchsorted(inner, np.arange(len(rows)))])
    if pieces is None:
        return rows_without_pieces(chunks)
    # A piece may begin inside of one of the smallest spans: each token then has the mean of its span.
    cut = cut_pieces(outer, pieces)
    each = np.ones(len(inner)) if weights is None else weights.astype(np.float64)
    return ChunkRows(chunks, _pooled(rows[inner], each, cut.owner), np.diff(cut.edges))


def _pooled(rows: FloatArray, weights: Doubles, owner: IntArray) -> FloatArray:
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    sums = np.add.reduceat(rows * weights[:, None], starts, axis=0)
    return (sums / np.add.reduceat(weights, starts)[:, None]).astype(np.float32)
