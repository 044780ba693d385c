"""Searching an index: queries in, hits out, in one round trip."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elasticsearch import BadRequestError, Elasticsearch

from es_latechunk.elastic.connection import cause_text, reason, server_errors
from es_latechunk.elastic.fusion import collapse, convex_sum, reciprocal_rank
from es_latechunk.elastic.identity import check_encoder
from es_latechunk.elastic.mapping import IndexRecord, read_record
from es_latechunk.elastic.query import INNER_HITS, INNER_SIZE, RRF_CONSTANT, QueryBuilder, SearchOptions
from es_latechunk.elastic.rerank import first_stage, rerank_hits
from es_latechunk.errors import LateChunkError, PreconditionError, ServerError, UsageError
from es_latechunk.types import Encoder, FloatArray, Hit, Reranker


@dataclass(frozen=True, slots=True)
class Found:
    """A query's hits, best first, and the milliseconds of the round trip that it shared."""

    query: str
    hits: list[Hit]
    milliseconds: float


class Searcher:
    """An index opened for searching: an alias is looked up once, so that no two models are ever mixed."""

    def __init__(self, client: Elasticsearch, index: str, options: SearchOptions) -> None:
        options.check()
        self._client = client
        self._index = index
        self._options = options
        self.record: IndexRecord = read_record(client, index)
        self._builder = QueryBuilder(self.record.properties, self.record.has_context, options)

    @property
    def mode(self) -> str:
        """The mode in use: the one asked for, or the best that the index has."""
        return self._builder.mode

    def encode(self, queries: Sequence[str], encoder: Encoder) -> list[FloatArray]:
        """Query vectors (dim,); an encoder that is not the index's own is refused (IndexMismatchError)."""
        for query in queries:
            check_query(query)
        check_encoder(self._index, self.record.identity.encoder, encoder.identity)
        return list(encoder.encode_queries(list(queries)))

    def requests(self, query: str, vector: FloatArray | None) -> list[dict[str, Any]]:
        """The search bodies of one query: two in hybrid mode, the text's and the vector's."""
        check_query(query)
        build, options = self._builder, self._options
        if self.mode == "bm25":
            return [build.bm25(query, size=options.k)]
        if vector is None:
            raise UsageError(f"a {self.mode} search needs an encoder; pass one, or search by bm25")
        if self.mode == "knn":
            return [build.knn(query, vector, size=options.k)]
        if options.fusion == "server":
            return [build.server_fusion(query, vector)]
        size = options.candidates()
        return [build.bm25(query, size=size), build.knn(query, vector, size=size)]

    def run(self, queries: Sequence[str], vectors: Sequence[FloatArray | None]) -> list[Found]:
        """All queries in one round trip."""
        bodies = [self.requests(query, vector) for query, vector in zip(queries, vectors, strict=True)]
        started = time.perf_counter()
        answers = iter(self._ask([body for group in bodies for body in group]))
        milliseconds = round(1000 * (time.perf_counter() - started), 3)
        return [
            Found(query, self._fuse([read_hits(next(answers)) for _ in group]), milliseconds)
            for query, group in zip(queries, bodies, strict=True)
        ]

    def _ask(self, bodies: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        header = {"index": list(self.record.names), "allow_partial_search_results": False}
        lines = [line for body in bodies for line in (header, body)]
        with server_errors(self._client, self._index):
            try:
                answers = self._client.msearch(searches=lines)["responses"]
            except BadRequestError as error:
                raise self._refusal(reason(error)) from error
        for answer in answers:
            if "error" in answer:
                raise self._refusal(_cause(answer["error"]))
        return list(answers)

    def _refusal(self, cause: str) -> LateChunkError:
        if "unknown retriever" in cause or "license" in cause:
            return PreconditionError(
                f"--fusion server: the cluster has no linear retriever for you ({cause}); it needs an Enterprise "
                "licence: use --fusion convex, which gives the same sum"
            )
        return ServerError(f"index {self._index}: the search failed ({cause})")

    def _fuse(self, lists: list[list[Hit]]) -> list[Hit]:
        options = self._options
        if len(lists) == 1:
            return lists[0]
        bm25, knn = lists
        if options.fusion == "rrf":
            fused = reciprocal_rank(bm25, knn, weight=options.weight, constant=RRF_CONSTANT)
        else:
            fused = convex_sum(bm25, knn, weight=options.weight)
        return collapse(fused, options.k, inner=INNER_SIZE - 1) if options.collapse else fused[: options.k]


def search(
    query: str,
    *,
    client: Elasticsearch,
    index: str,
    encoder: Encoder | None,
    options: SearchOptions | None = None,
    reranker: Reranker | None = None,
    rank_window_size: int | None = None,
) -> list[Hit]:
    """The best chunks for a query, best first; see SearchOptions for what can be asked.

    A kNN score is (1 + cosine) / 2, BM25's is Elasticsearch's own, and a hybrid score is the fusion's. Without
    an encoder, the mode must be bm25. A reranker puts the first `rank_window_size` hits (default 50, at least k)
    in its own order, of which k are given.
    """
    options = options or SearchOptions()
    searcher = Searcher(client, index, first_stage(options, rank_window_size) if reranker else options)
    vector = None
    if encoder is not None and searcher.mode != "bm25":
        vector = searcher.encode([query], encoder)[0]
    hits = searcher.run([query], [vector])[0].hits
    return rerank_hits(query, hits, reranker=reranker, k=options.k) if reranker else hits


def _cause(error: Mapping[str, Any]) -> str:
    """Why a search failed: the first shard's words where it failed on a shard."""
    failed = error.get("failed_shards")
    return cause_text(failed[0]["reason"] if failed else dict(error))


def check_query(query: str) -> None:
    """Raise a UsageError for a query without a word."""
    if not query.strip():
        raise UsageError("the query is empty; write a few words")


def read_hits(answer: Mapping[str, Any]) -> list[Hit]:
    """The hits of one search answer."""
    return [read_hit(row) for row in answer["hits"]["hits"]]


def read_hit(row: Mapping[str, Any]) -> Hit:
    """A hit from one row of Elasticsearch's answer."""
    source = row["_source"]
    highlight = row.get("highlight", {}).get("content")
    inner = row.get("inner_hits", {}).get(INNER_HITS)
    return Hit(
        id=row["_id"],
        doc_id=source["doc_id"],
        ordinal=source["ordinal"],
        score=row["_score"],
        start=source["start"],
        end=source["end"],
        content=source["content"],
        title=source.get("title", ""),
        metadata=source.get("metadata", {}),
        highlight=highlight[0] if highlight else None,
        inner_hits=tuple(hit for hit in read_hits(inner) if hit.id != row["_id"]) if inner else None,
    )
