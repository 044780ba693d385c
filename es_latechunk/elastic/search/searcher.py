"""Runs many queries in few requests: candidates, fusion, the fields of the best hits, and their passages."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

from elasticsearch import BadRequestError, Elasticsearch

from es_latechunk.elastic.connection import cause_text, closed_index, reason, server_errors
from es_latechunk.elastic.index.admin import IndexRecord, read_record
from es_latechunk.elastic.index.identity import IndexIdentity, check_encoder
from es_latechunk.elastic.search.fetch import Fetched, fetch, read_hit
from es_latechunk.elastic.search.filters import filter_fields
from es_latechunk.elastic.search.fusion import Candidate, collapse, convex_sum, reciprocal_rank
from es_latechunk.elastic.search.query import (
    INNER_HITS,
    INNER_SIZE,
    RRF_CONSTANT,
    SOURCE_FIELDS,
    QueryBuilder,
    SearchOptions,
    ids_and_scores,
    places_and_scores,
)
from es_latechunk.elastic.write.actions import chunk_id
from es_latechunk.errors import (
    LateChunkError,
    PreconditionError,
    ServerError,
    TooMuchError,
    UsageError,
    setting,
)
from es_latechunk.types import Encoder, FloatArray, Hit, Passage

log = logging.getLogger(__name__)

# The fields that each client has seen filled, by the names of the indices: a program that searches again and again with
# one client asks once per field. An empty field is asked for each time, as an ingest may fill it.
_filled: WeakKeyDictionary[Elasticsearch, set[tuple[tuple[str, ...], str]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of a query, best first, and the milliseconds of the requests that it shared with other queries."""

    query: str
    hits: list[Hit]
    milliseconds: float


class Searcher:
    """An index opened for searching.

    An alias is resolved once, so that a search never mixes two models while the alias is swapped.
    """

    def __init__(self, client: Elasticsearch, index: str, options: SearchOptions) -> None:
        options.check()
        self._client = client
        self._index = index
        self._options = options
        self.record: IndexRecord = read_record(client, index)
        self._builder = QueryBuilder(self.record.properties, self.record.text_fields, options)
        self._builder.filters()  # refuses what cannot work before a model is loaded for it
        self._warn_of_empty_fields()

    def _warn_of_empty_fields(self) -> None:
        """Log a warning for each field in a filter that no chunk has: the name may be misspelt."""
        indices = self.record.names
        filled = _filled.setdefault(self._client, set())
        fields = {
            field: name
            for each in self._options.filters
            if isinstance(each, str)
            for name, field in filter_fields(each, self.record.properties)
            if (indices, field) not in filled
        }
        if not fields:
            return
        bodies = [
            {"query": {"exists": {"field": field}}, "size": 0, "track_total_hits": 1} for field in fields
        ]
        for (field, name), answer in zip(fields.items(), self._ask(bodies), strict=True):
            if answer["hits"]["total"]["value"]:
                filled.add((indices, field))
            else:
                log.warning("index %s: no document has %s (%s); check its name", self._index, name, field)

    @property
    def identity(self) -> IndexIdentity:
        """The index's record of its vectors."""
        return self.record.identity

    @property
    def mode(self) -> str:
        """The mode in use: that of the options, or the default of the index."""
        return self._builder.mode

    @property
    def candidates(self) -> int:
        """The maximum number of chunks in each list of a query."""
        return self._options.candidates()

    def encode(self, queries: Sequence[str], encoder: Encoder) -> list[FloatArray]:
        """Encode queries to vectors (dim,); an encoder that is not the index's own is refused (IndexMismatchError)."""
        for query in queries:
            check_query(query)
        check_encoder(self._index, self.record.identity.encoder, encoder.identity)
        return list(encoder.encode_queries(list(queries)))

    def requests(self, query: str, vector: FloatArray | None, *, wide: bool = False) -> list[dict[str, Any]]:
        """Return the search bodies of one query; in hybrid mode two, one for the text and one for the vector.

        With `wide`, a single list has all candidates, not only k.
        """
        check_query(query)
        build, options = self._builder, self._options
        size = options.candidates() if wide else options.k
        if self.mode == "bm25":
            return [build.bm25(query, size=size)]
        if vector is None:
            raise UsageError(f"a {self.mode} search needs an encoder; pass one, or search by bm25")
        if self.mode == "knn":
            return [build.knn(query, vector, size=size)]
        if options.fusion == "server":
            return [build.server_fusion(query, vector)]
        size = options.candidates()
        return [build.bm25(query, size=size), build.knn(query, vector, size=size)]

    def run(self, queries: Sequence[str], vectors: Sequence[FloatArray | None]) -> list[Found]:
        """Search for all queries in one request, and fetch the fields of their hits in a second one (see `fetch`)."""
        bodies = [self.requests(query, vector) for query, vector in zip(queries, vectors, strict=True)]
        started = time.perf_counter()
        ranked = self._rank(bodies)
        shown = self._show(queries, ranked)
        k = self._options.k
        for number, (hits, candidates) in enumerate(zip(shown, ranked, strict=True)):
            if len(hits) < k <= len(candidates) < self._options.candidates():
                # Some hits cannot be shown, and a single list holds k candidates only: search again with more.
                wider = self._rank([self.requests(queries[number], vectors[number], wide=True)])
                [shown[number]] = self._show([queries[number]], wider)
        milliseconds = round(1000 * (time.perf_counter() - started), 3)
        return [Found(query, hits, milliseconds) for query, hits in zip(queries, shown, strict=True)]

    def rank(self, query: str, vector: FloatArray | None) -> list[Candidate]:
        """Return all candidates of one query, best first, without their fields; in hybrid mode those of both lists."""
        [ranked] = self._rank([self.requests(query, vector, wide=True)])
        return ranked

    def show(self, query: str, lists: Sequence[Sequence[Candidate]]) -> list[list[Hit]]:
        """Return the best k hits of each list of one query's candidates; the fields of all are fetched together."""
        return self._show([query] * len(lists), lists)

    def sample(self, count: int) -> list[Hit]:
        """Return one chunk of each of `count` documents, preferably with a title and headings; each time the same."""
        named = [
            {"constant_score": {"filter": {"exists": {"field": field}}, "boost": 2}}
            for field in ("title", "headings")
        ]
        drawn = {
            "query": {"bool": {"must": {"match_all": {}}, "should": named}},
            "random_score": {"seed": 1, "field": "_seq_no"},  # from 0 to 1
            "boost_mode": "sum",
        }
        body = {"query": {"function_score": drawn}, "collapse": {"field": "doc_id"}, "size": count}
        rows = self._ask_one({**body, "_source": list(SOURCE_FIELDS)})["hits"]["hits"]
        return [hit for hit in map(read_hit, rows) if hit is not None]

    def _rank(self, bodies: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Candidate]]:
        """Return the candidates of each query, best first, with ids and scores alone."""
        flat = [body for group in bodies for body in group]
        answers = self._ask([places_and_scores(body) for body in flat])
        lists = iter([self._read(*pair) for pair in zip(flat, answers, strict=True)])
        return [self._fuse([next(lists) for _ in group]) for group in bodies]

    def _read(self, body: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Candidate]:
        """Read the candidates; if other programs' documents are among them, ask again, for the `_id`s."""
        found = read_candidates(answer)
        if found is None:
            [answer] = self._ask([ids_and_scores(body)])
            found = read_candidates(answer)
        return found or []

    def _show(self, queries: Sequence[str], ranked: Sequence[Sequence[Candidate]]) -> list[list[Hit]]:
        """Return the best k hits of each query; a hit that cannot be shown is replaced by the next candidate."""
        k = self._options.k
        together = Fetched()
        shown = []
        if not self._options.highlight:
            self._fetch([one for candidates in ranked for one in candidates[:k]], together)
        for query, candidates in zip(queries, ranked, strict=True):
            fetched = Fetched() if self._options.highlight else together
            words = query if self._options.highlight else None
            upto = k
            self._fetch(candidates[:upto], fetched, words)
            while len(hits := fetched.shown(candidates[:upto], k)) < k and upto < len(candidates):
                upto += k
                self._fetch(candidates[:upto], fetched, words)
            shown.append(hits)
        return shown

    def _fetch(self, candidates: Sequence[Candidate], into: Fetched, highlight: str | None = None) -> None:
        fetch(self._ask_one, candidates, into, indices=len(self.record.names), highlight=highlight)

    def _ask_one(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._ask([body])[0]
        except ServerError as error:
            if "circuit_breaking_exception" in str(error) or "Data too large" in str(error):
                raise TooMuchError(error.message.marked) from error
            raise

    def fetch_rows(self, ids: Sequence[str]) -> dict[str, Hit]:
        """Fetch chunks by their `_id`s."""
        fetched = Fetched()
        for index in self.record.names:
            self._fetch([Candidate(index, chunk, 0.0) for chunk in ids], fetched)
        return {hit.id: hit for hit in fetched.hits.values() if hit is not None}

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
                raise self._failed(answer["error"])
        return list(answers)

    def _refusal(self, cause: str) -> LateChunkError:
        if "unknown retriever" in cause or "license" in cause:
            return PreconditionError(
                f"{setting('fusion')} server: the cluster has no linear retriever for you ({cause}); it needs an "
                f"Enterprise licence: use {setting('fusion')} convex, which needs none"
            )
        return ServerError(f"index {self._index}: the search failed ({cause})")

    def _failed(self, error: Mapping[str, Any]) -> LateChunkError:
        if error.get("type") == "index_closed_exception":
            return closed_index(self._index)
        return self._refusal(_cause(error))

    def _fuse(self, lists: list[list[Candidate]]) -> list[Candidate]:
        options = self._options
        if len(lists) == 1:  # one mode, or Elasticsearch has fused the lists
            return lists[0]
        bm25, knn = lists
        if options.fusion == "rrf":
            fused = reciprocal_rank(bm25, knn, bm25_weight=options.bm25_weight, constant=RRF_CONSTANT)
        else:
            fused = convex_sum(bm25, knn, bm25_weight=options.bm25_weight, limit=options.candidates())
        return collapse(fused, inner=INNER_SIZE - 1) if options.collapse else fused


def _cause(error: Mapping[str, Any]) -> str:
    """Return why a search failed; if it failed on shards, the reason of the first one."""
    failed = error.get("failed_shards")
    return cause_text(failed[0]["reason"] if failed else dict(error))


def check_query(query: str) -> None:
    """Raise a UsageError for an empty query."""
    if not query.strip():
        raise UsageError("the query is empty; write a few words")


def read_candidates(answer: Mapping[str, Any]) -> list[Candidate] | None:
    """Read the ids and scores of one search answer; None if its hits are without `_id`, and not all are chunks of ours.

    Then a hit lacks the document or the ordinal that its `_id` would consist of, or two hits have the same.
    """
    found = []
    for row in answer["hits"]["hits"]:
        identifier = row.get("_id") or _place(row)
        inner = row.get("inner_hits", {}).get(INNER_HITS)
        others = read_candidates(inner) if inner else []
        if identifier is None or others is None:
            return None
        rest = tuple(other for other in others if other.id != identifier) if inner else None
        found.append(Candidate(row["_index"], identifier, row["_score"], rest))
    return found if len({one.key for one in found}) == len(found) else None


def _place(row: Mapping[str, Any]) -> str | None:
    """Return the `_id` that the document and ordinal of a hit make up."""
    fields = row.get("fields", {})
    doc_ids, ordinals = fields.get("doc_id", []), fields.get("ordinal", [])
    return chunk_id(doc_ids[0], ordinals[0]) if len(doc_ids) == len(ordinals) == 1 else None


def add_passages(searcher: Searcher, hits: Sequence[Hit], neighbours: int) -> list[Hit]:
    """Return the hits with their passages: up to `neighbours` chunks of the same document on each side."""
    chunks = {hit.id: hit for hit in hits}
    around = {
        chunk_id(hit.doc_id, ordinal)
        for hit in hits
        for ordinal in range(max(0, hit.ordinal - neighbours), hit.ordinal + neighbours + 1)
    }
    chunks.update(searcher.fetch_rows(sorted(around - chunks.keys())))
    return [replace(hit, passage=join_passage(_neighbourhood(hit, chunks, neighbours))) for hit in hits]


def join_passage(chunks: Sequence[Hit]) -> Passage:
    """Join consecutive chunks of one document to one text."""
    text = chunks[0].content
    for before, after in pairwise(chunks):
        gap = after.start - before.end
        text += ("\n\n" if gap > 1 else " " * gap) + after.content
    return Passage(chunks[0].start, chunks[-1].end, text)


def _neighbourhood(hit: Hit, chunks: Mapping[str, Hit], neighbours: int) -> list[Hit]:
    """Return the hit with the chunks on both sides, up to the first one that is missing or overlaps.

    A document may be replaced between the search and this request; chunks of its new version can overlap the hit.
    """
    found = [hit]
    for distance in range(1, neighbours + 1):
        before = chunks.get(chunk_id(hit.doc_id, hit.ordinal - distance))
        if before is None or before.end > found[0].start:
            break
        found.insert(0, before)
    for distance in range(1, neighbours + 1):
        after = chunks.get(chunk_id(hit.doc_id, hit.ordinal + distance))
        if after is None or after.start < found[-1].end:
            break
        found.append(after)
    return found
