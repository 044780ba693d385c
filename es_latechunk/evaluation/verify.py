"""Verify an index: its kNN search next to exact cosines, and every stored vector next to what the index records."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from es_latechunk.chunking import chunk_document
from es_latechunk.documents import document_hash, printable, unique_documents
from es_latechunk.errors import DocumentError, UsageError, setting
from es_latechunk.late import EmbeddedChunks, embed_chunks
from es_latechunk.models import EncoderLoader, choose_encoder
from es_latechunk.target import recorded_chunking
from es_latechunk.types import (
    DEFAULT_RETRY_FOR,
    ChunkedDocument,
    ChunkSpan,
    Document,
    Encoder,
    FloatArray,
    PieceVector,
)

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.elastic.index.identity import IndexIdentity
    from es_latechunk.elastic.point_in_time import PointInTime
    from es_latechunk.elastic.search.stored import StoredChunk

DEFAULT_SAMPLE = 100  # documents that are embedded again
NORM_TOLERANCE = 1e-3
SAME_SCORE = 1e-6  # of a cosine: what float32 cannot tell apart
SAME_VECTOR = 0.999  # cosine; other engines and precisions of one model differ by less
MAX_PROBLEMS = 100  # that a report keeps
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StoredProblem:
    """What is wrong with a chunk or a document; `id` is the `_id` of the chunk, or the document's id."""

    index: str
    id: str
    cause: str

    def __str__(self) -> str:
        return f"index {self.index}: {self.id}: {self.cause}"


@dataclass(frozen=True, slots=True)
class KnnAccuracy:
    """Elasticsearch's k nearest chunks next to the exact ones, over all queries.

    `recall` is the mean share (0 to 1) of the exact k nearest that were found, `lowest_recall` that of the worst query.
    `same_order` counts the queries with exactly the k nearest in their exact order; chunks of equal cosine may change
    places. `largest_error` is the largest difference between a hit's score and (1 + cosine) / 2.
    """

    num_candidates: int
    queries: int
    recall: float
    lowest_recall: float
    same_order: int
    largest_error: float


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of `verify`. `problems` are the first hundred of `problem_count`.

    `compared_documents` were embedded again, and `lowest_cosine` is the lowest between one of their stored vectors and
    the same vector now, or None if no document was compared.
    """

    index: str
    index_type: str
    k: int
    documents: int
    chunks: int
    vectors: int
    knn: tuple[KnnAccuracy, ...]
    compared_documents: int
    lowest_cosine: float | None
    problem_count: int
    problems: tuple[StoredProblem, ...]


def verify(
    index: str,
    *,
    queries: Iterable[str] = (),
    k: int = 10,
    num_candidates: Sequence[int] = (),
    documents: Iterable[Document | DocumentError] | None = None,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    client: Elasticsearch | None = None,
    encoder: Encoder | EncoderLoader | None = None,
    on_problem: Callable[[StoredProblem], None] | None = None,
) -> VerifyReport:
    """Read all chunks of an index with their vectors, as they are at one moment, and report what is wrong with them.

    For each of `queries`, and each of `num_candidates` (default: that of a search for `k` hits), Elasticsearch's kNN
    search is compared with the exact cosines of the stored vectors. Whatever the queries, each chunk is checked: it has
    a vector of the recorded number of dimensions and of length 1, and its document has as many chunks as it records,
    without a gap, and of one version.

    That cannot show that a vector belongs to its text. So `documents`, the source of the index, are compared with it:
    `sample` of them, chosen by `seed`, are hashed, chunked and embedded again as the index records.

    `on_problem` is called with each problem; the report keeps the first hundred. `encoder` and `client` are those of
    `search_many`; no model is loaded without queries and documents. Memory grows with `sample` and the queries, not
    with the index. Raises UsageError, IndexNotFoundError, IndexMismatchError if the encoder is not the index's own, and
    ServerError.
    """
    from es_latechunk.elastic.connection import connect
    from es_latechunk.elastic.index.admin import read_record
    from es_latechunk.elastic.index.identity import check_encoder
    from es_latechunk.elastic.index.template import VECTOR_FIELD, has_pieces
    from es_latechunk.elastic.point_in_time import PointInTime
    from es_latechunk.elastic.search.query import QueryBuilder, SearchOptions
    from es_latechunk.elastic.search.searcher import check_query
    from es_latechunk.elastic.search.stored import stored_chunks

    asked = list(queries)
    for query in asked:
        check_query(query)
    if sample < 1:
        raise UsageError(f"{setting('sample')} {sample} is not a number of documents; choose 1 or more")
    searches = [SearchOptions(k=k, mode="knn", num_candidates=number) for number in num_candidates or (None,)]
    for options in searches:
        options.check()
    client = client or connect()
    record = read_record(client, index)
    problems = _Problems(on_problem)
    vectors = np.zeros((0, record.identity.encoder.dimensions), dtype=np.float32)
    expected: dict[str, _Expected] = {}
    if asked or documents is not None:
        chosen = choose_encoder(encoder, record.identity.encoder)
        check_encoder(index, record.identity.encoder, chosen.identity)
        vectors = chosen.encode_queries(asked) if asked else vectors
        for problem in _embed_again(documents or (), record.identity, chosen, sample, seed, index, expected):
            problems.add(problem)

    with PointInTime(client, ",".join(record.names), retry_for=DEFAULT_RETRY_FOR) as source:
        builders = [QueryBuilder(record.properties, record.text_fields, options) for options in searches]
        nearest = [
            _Nearest(
                source,
                [builder.knn(query, vector, size=k) for query, vector in zip(asked, vectors, strict=True)],
            )
            for builder in builders
        ]
        with_pieces = has_pieces(record.properties)
        exact = _ExactNearest(vectors, k, nearest, with_pieces=with_pieces)
        checked = _DocumentChecks(
            record.identity.encoder.dimensions, expected, problems, with_pieces=with_pieces
        )
        for page in stored_chunks(source, with_pieces=with_pieces):
            exact.add(page)
            for chunk in page:
                checked.add(chunk)
        checked.end()
    for doc_id in sorted(expected.keys() - checked.compared):
        problems.add(StoredProblem(index, printable(doc_id), "is not in the index; ingest it"))
    return VerifyReport(
        index=index,
        index_type=record.properties[VECTOR_FIELD].get("index_options", {}).get("type", ""),
        k=k,
        documents=checked.documents,
        chunks=checked.chunks,
        vectors=exact.count,
        knn=tuple(
            exact.accuracy(each, options.candidates())
            for each, options in zip(nearest, searches, strict=True)
            if asked
        ),
        compared_documents=len(checked.compared),
        lowest_cosine=checked.lowest_cosine,
        problem_count=problems.count,
        problems=tuple(problems.first),
    )


@dataclass(slots=True)
class _Problems:
    on_problem: Callable[[StoredProblem], None] | None
    count: int = 0
    first: list[StoredProblem] = field(default_factory=list)

    def add(self, problem: StoredProblem) -> None:
        self.count += 1
        if self.count <= MAX_PROBLEMS:
            self.first.append(problem)
        if self.on_problem is not None:
            self.on_problem(problem)


@dataclass(frozen=True, slots=True)
class _Expected:
    """A document of the sample: the hash, the chunks, the vectors (N, dim) and the pieces that it should have."""

    doc_hash: str
    text: str
    spans: Sequence[ChunkSpan]
    vectors: FloatArray
    pieces: Sequence[Sequence[PieceVector]]


def _embed_again(
    documents: Iterable[Document | DocumentError],
    identity: IndexIdentity,
    encoder: Encoder,
    sample: int,
    seed: int,
    index: str,
    into: dict[str, _Expected],
) -> Iterator[StoredProblem]:
    """Choose `sample` documents, embed them as the index records, and yield a problem for each that cannot be read."""
    chosen, errors = _choose(unique_documents(documents), sample, seed)
    chunker, windows = recorded_chunking(identity, encoder)

    def chunked() -> Iterator[ChunkedDocument | DocumentError]:
        for document in chosen:
            try:
                yield chunk_document(document, chunker=chunker, tokenizer=encoder.tokenizer)
            except DocumentError as error:
                yield error

    blocks: dict[str, list[EmbeddedChunks]] = {}
    for block in embed_chunks(chunked(), encoder=encoder, pooling=identity.pooling, windows=windows):
        if isinstance(block, DocumentError):
            errors.append(block)
        else:
            blocks.setdefault(block.chunked.document.id, []).append(block)
    failed = {error.document for error in errors}
    for doc_id, parts in blocks.items():
        if printable(doc_id) not in failed:
            document = parts[0].chunked.document
            vectors = np.concatenate([part.vectors for part in parts])
            doc_hash = document_hash(document, vectors=identity.digest())
            pieces = [own for part in parts for own in part.pieces]
            into[doc_id] = _Expected(doc_hash, document.text, parts[0].chunked.spans, vectors, pieces)
    yield from (StoredProblem(index, error.document, str(error.cause)) for error in errors)


def _choose(
    documents: Iterable[Document | DocumentError], sample: int, seed: int
) -> tuple[list[Document], list[DocumentError]]:
    """Return `sample` documents, each with the same probability, and all errors. Source: Vitter 1985, algorithm R."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    chosen: list[Document] = []
    errors: list[DocumentError] = []
    seen = 0
    for document in documents:
        if isinstance(document, DocumentError):
            errors.append(document)
            continue
        seen += 1
        if len(chosen) < sample:
            chosen.append(document)
        elif (place := rng.randrange(seen)) < sample:
            chosen[place] = document
    return chosen, errors


class _Nearest:
    """Elasticsearch's hits for each query, with their scores, and later their exact cosines."""

    def __init__(self, source: PointInTime, bodies: Sequence[dict[str, Any]]) -> None:
        self.hits: list[list[tuple[str, str]]] = []
        self.scores: list[list[float]] = []
        self.cosines: dict[tuple[int, str, str], float] = {}
        self.wanted: dict[tuple[str, str], list[int]] = {}
        for number, body in enumerate(bodies):
            rows = source.search({"knn": body["knn"], "size": body["size"], "source": False})["hits"]["hits"]
            self.hits.append([(row["_index"], row["_id"]) for row in rows])
            self.scores.append([row["_score"] for row in rows])
            for key in self.hits[-1]:
                self.wanted.setdefault(key, []).append(number)


class _ExactNearest:
    """The k highest cosines of each query, of all chunks that have come by; with pieces, the best piece's counts."""

    def __init__(
        self, queries: FloatArray, k: int, nearest: Sequence[_Nearest], *, with_pieces: bool
    ) -> None:
        wide = queries.astype(np.float64)
        self._queries: Doubles = wide / np.linalg.norm(wide, axis=1, keepdims=True) if len(wide) else wide
        self._k = k
        self._nearest = nearest
        self._with_pieces = with_pieces
        self._best: Doubles = np.zeros((len(queries), 0))
        self.count = 0

    def add(self, page: Sequence[StoredChunk]) -> None:
        """Add the vectors of a page of chunks."""
        kept = [(chunk, own) for chunk in page if (own := self._searched(chunk))]
        if not kept or not len(self._queries):
            return
        vectors = np.stack([vector for _, own in kept for vector in own]).astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        firsts = np.cumsum([0, *(len(own) for _, own in kept)])[:-1]
        cosines = np.maximum.reduceat(self._queries @ vectors.T, firsts, axis=1)
        self._best = -np.sort(-np.concatenate([self._best, cosines], axis=1), axis=1)[:, : self._k]
        for place, (chunk, _) in enumerate(kept):
            for nearest in self._nearest:
                for number in nearest.wanted.get((chunk.index, chunk.id), ()):
                    nearest.cosines[number, chunk.index, chunk.id] = float(cosines[number, place])

    def _searched(self, chunk: StoredChunk) -> list[FloatArray]:
        """Count a chunk's vectors, and return those that Elasticsearch searches."""
        dimensions = self._queries.shape[1]
        own, pieces = (
            [vector for vector in vectors if vector is not None and len(vector) == dimensions]
            for vectors in ([chunk.vector], [piece.vector for piece in chunk.pieces])
        )
        self.count += len(own) + len(pieces)
        return pieces if self._with_pieces else own

    def accuracy(self, nearest: _Nearest, num_candidates: int) -> KnnAccuracy:
        """Compare Elasticsearch's hits with the exact ones."""
        recalls, same_order, largest = [], 0, 0.0
        for number, (hits, scores) in enumerate(zip(nearest.hits, nearest.scores, strict=True)):
            exact = self._best[number]
            found = np.array([nearest.cosines[number, index, name] for index, name in hits])
            # A chunk as near as the k-th nearest counts as one of them, as the order of equal ones is arbitrary.
            recalls.append(float((found >= exact[-1] - SAME_SCORE).sum()) / len(exact) if len(exact) else 1.0)
            same_order += len(found) == len(exact) and bool((np.abs(found - exact) <= SAME_SCORE).all())
            largest = max(largest, *np.abs(np.array(scores) - (1 + found) / 2).tolist(), 0.0)
        return KnnAccuracy(
            num_candidates, len(recalls), float(np.mean(recalls)), min(recalls), same_order, largest
        )


class _DocumentChecks:
    """Checks each chunk, and each document by its chunks, which come one after the other."""

    def __init__(
        self, dimensions: int, expected: dict[str, _Expected], problems: _Problems, *, with_pieces: bool
    ) -> None:
        self.documents = 0
        self.chunks = 0
        self.compared: set[str] = set()
        self.lowest_cosine: float | None = None
        self._dimensions = dimensions
        self._expected = expected
        self._problems = problems
        self._with_pieces = with_pieces
        self._first: StoredChunk | None = None
        self._last: StoredChunk | None = None

    def add(self, chunk: StoredChunk) -> None:
        """Check the next chunk."""
        self.chunks += 1
        if chunk.fault:
            self._report(chunk, f"is not a chunk of es-latechunk ({chunk.fault}); delete it")
            return
        for cause in vector_faults(chunk.vector, self._dimensions):
            self._report(chunk, cause)
        if self._with_pieces:
            for cause in piece_faults(chunk, self._dimensions):
                self._report(chunk, cause)
        first, last = self._first, self._last
        if first is None or last is None or (first.index, first.doc_id) != (chunk.index, chunk.doc_id):
            self._end_document()
            self._first = chunk
            self.documents += 1
            if chunk.ordinal != 0:
                self._report(chunk, f"is the first chunk of its document, but its ordinal is {chunk.ordinal}")
        else:
            self._compare_neighbours(first, last, chunk)
        self._last = chunk
        if chunk.doc_id in self._expected:
            self.compared.add(chunk.doc_id)
            self._compare_with_source(chunk, self._expected[chunk.doc_id])

    def end(self) -> None:
        """Check the last document."""
        self._end_document()

    def _compare_neighbours(self, first: StoredChunk, last: StoredChunk, chunk: StoredChunk) -> None:
        if chunk.ordinal != last.ordinal + 1:
            self._report(chunk, f"comes after the ordinal {last.ordinal}: the chunks in between are missing")
        if chunk.start < last.end:
            self._report(
                chunk, f"begins at {chunk.start}, before the end of the chunk before it ({last.end})"
            )
        for name in ("doc_hash", "chunk_count"):
            own, other = getattr(chunk, name), getattr(first, name)
            if own != other:
                self._report(chunk, f"has the {name} {own}, the first chunk of its document has {other}")

    def _end_document(self) -> None:
        first, last = self._first, self._last
        if first is None or last is None:
            return
        if first.chunk_count != last.ordinal + 1:
            cause = f"its last chunk has the ordinal {last.ordinal}, its chunk_count is {first.chunk_count}"
            self._problems.add(StoredProblem(first.index, printable(first.doc_id), cause))
        if not first.doc_hash:
            cause = "has no doc_hash, so its model and settings are unknown; ingest it again"
            self._problems.add(StoredProblem(first.index, printable(first.doc_id), cause))

    def _compare_with_source(self, chunk: StoredChunk, expected: _Expected) -> None:
        if chunk.doc_hash != expected.doc_hash:
            if chunk.ordinal == 0:
                self._report(
                    chunk, "was made of another text, model or settings than the source's; ingest it again"
                )
            return
        if chunk.ordinal >= len(expected.spans):
            return  # `_end_document` names it: the hash is right, so the chunk_count is too
        span, vector = expected.spans[chunk.ordinal], expected.vectors[chunk.ordinal]
        text = expected.text[span.start : span.end]
        if (chunk.start, chunk.end, chunk.content) != (span.start, span.end, text):
            self._report(
                chunk, f"is not the document's text: it should be the characters {span.start} to {span.end}"
            )
        self._compare_vector(chunk, "its vector", chunk.vector, vector)
        pieces = expected.pieces[chunk.ordinal] if expected.pieces else ()
        own, wanted = ([(piece.start, piece.end) for piece in each] for each in (chunk.pieces, pieces))
        if own != wanted:
            self._report(chunk, f"its pieces are {own}, those of its text are {wanted}")
            return
        for number, (stored, piece) in enumerate(zip(chunk.pieces, pieces, strict=True)):
            self._compare_vector(chunk, f"the vector of its piece {number}", stored.vector, piece.vector)

    def _compare_vector(
        self, chunk: StoredChunk, name: str, stored: FloatArray | None, wanted: FloatArray
    ) -> None:
        if stored is None or stored.shape != wanted.shape:
            return
        norm = float(np.linalg.norm(stored)) or 1.0
        cosine = float(stored.astype(np.float64) @ wanted.astype(np.float64)) / norm
        self.lowest_cosine = cosine if self.lowest_cosine is None else min(self.lowest_cosine, cosine)
        if cosine < SAME_VECTOR:
            self._report(chunk, f"{name} is not that of its text: the cosine of the two is {cosine:.4f}")

    def _report(self, chunk: StoredChunk, cause: str) -> None:
        self._problems.add(StoredProblem(chunk.index, printable(chunk.id), cause))


def vector_faults(vector: FloatArray | None, dimensions: int) -> Iterator[str]:
    """Yield what is wrong with a vector by itself."""
    if vector is None:
        yield "has no vector"
        return
    if len(vector) != dimensions:
        yield f"its vector has {len(vector)} dimensions, the index records {dimensions}"
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if abs(norm - 1) > NORM_TOLERANCE:
        yield f"its vector has the length {norm:.4f}, not 1"


def piece_faults(chunk: StoredChunk, dimensions: int) -> Iterator[str]:
    """Yield what is wrong with the pieces of a chunk by themselves."""
    if not chunk.pieces:
        yield "has no pieces, so a kNN search does not find it"
    reached = chunk.start
    for number, piece in enumerate(chunk.pieces):
        for cause in vector_faults(piece.vector, dimensions):
            yield f"its piece {number}: {cause}"
        if piece.start is None or piece.end is None or not reached <= piece.start <= piece.end <= chunk.end:
            yield f"its piece {number} [{piece.start}, {piece.end}) is not inside the chunk, after the piece before it"
        reached = chunk.start if piece.start is None else piece.start
