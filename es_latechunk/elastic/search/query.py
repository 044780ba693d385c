"""The options of a search, and the request bodies that are built from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from es_latechunk.elastic.index.template import (
    CONTEXT_FIELDS,
    PIECES_FIELD,
    PIECES_PATH,
    VECTOR_FIELD,
    has_pieces,
)
from es_latechunk.elastic.search.filters import parse_filter
from es_latechunk.elastic.search.kql import read_filter
from es_latechunk.errors import UsageError, setting
from es_latechunk.types import FloatArray, Hit, Reranker

Mode = Literal["knn", "bm25", "hybrid"]
Fusion = Literal["convex", "rrf", "server"]
Filter = str | Mapping[str, Any]
MODES: tuple[Mode, ...] = ("knn", "bm25", "hybrid")
FUSIONS: tuple[Fusion, ...] = ("convex", "rrf", "server")
MAX_NUM_CANDIDATES = 10_000
MIN_NUM_CANDIDATES = 500  # the default; docs/search.md shows what it gains over 100
SOURCE_FIELDS = ("doc_id", "ordinal", "start", "end", "content", "title", "metadata", "headings")
# A chunk's term frequency is tf + .2 tf(chunks +-1) + .1 tf(chunks +-2) + .5 tf(title) + .2 tf(headings), times ten,
# as is k1 in the mapping; docs/search.md has the measurement.
CONTEXT_WEIGHTS = {"content": 10, "neighbours_1": 2, "neighbours_2": 1, "title": 5, "headings": 2}
# With Elasticsearch's own k1; combined_fields allows no weight below 1.
PLAIN_WEIGHTS = {"content": 1, "title": 1, "headings": 1}
DEFAULT_BM25_WEIGHT = 0.5
RRF_CONSTANT = 60  # of Cormack et al. 2009
RANK_WINDOW_SIZE = 50  # hits that a reranker reads: more cost seconds on a CPU
INNER_HITS = "chunks"
INNER_SIZE = 5  # with the hit itself
WHOLE = 2_147_483_647  # characters: a chunk without any of the words is returned unchanged


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of a search; None stands for the default of the index.

    The search returns `k` hits. Each mode looks at `num_candidates` chunks per shard (default 10 k, at least 500); in
    hybrid mode each of the two lists holds as many. `similarity` is the minimum cosine of kNN hits. `oversample`
    rescores this many times k quantised candidates with the full vectors. `bm25_weight` is BM25's share in a fusion;
    the vectors have the rest. `filters` are strings such as "field=value" or Elasticsearch clauses; all must hold.
    """

    k: int = 10
    mode: Mode | None = None
    num_candidates: int | None = None
    similarity: float | None = None
    oversample: float | None = None
    fusion: Fusion = "convex"
    bm25_weight: float = DEFAULT_BM25_WEIGHT
    filters: tuple[Filter, ...] = ()
    highlight: bool = False
    collapse: bool = False

    def candidates(self) -> int:
        """Return the number of candidates, between k and Elasticsearch's limit; a UsageError for any other."""
        if not 1 <= self.k <= MAX_NUM_CANDIDATES:
            raise UsageError(f"{setting('k')} {self.k} is not between 1 and {MAX_NUM_CANDIDATES}")
        wanted = self.num_candidates
        if wanted is None:
            return min(max(10 * self.k, MIN_NUM_CANDIDATES), MAX_NUM_CANDIDATES)
        if not self.k <= wanted <= MAX_NUM_CANDIDATES:
            raise UsageError(
                f"{setting('num_candidates')} {wanted} is not between {setting('k')} {self.k} and {MAX_NUM_CANDIDATES}"
            )
        return wanted

    def check(self) -> None:
        """Raise a UsageError for options that cannot work, before a model is loaded for them."""
        self.candidates()
        for name, value, known in (("mode", self.mode, (None, *MODES)), ("fusion", self.fusion, FUSIONS)):
            if value not in known:
                names = ", ".join(choice for choice in known if choice)
                raise UsageError(f"{setting(name)}: {value!r} is not known; choose one of {names}")
        if not 0 <= self.bm25_weight <= 1:
            raise UsageError(f"{setting('bm25_weight')} {self.bm25_weight} is not between 0 and 1")
        if self.similarity is not None and not -1 <= self.similarity <= 1:
            raise UsageError(f"{setting('similarity')} {self.similarity} is not a cosine; choose -1 to 1")
        if self.oversample is not None and not 1 <= self.oversample < 10:
            raise UsageError(f"{setting('oversample')} {self.oversample} is not between 1 and 10")
        for each in self.filters:
            if isinstance(each, str):
                read_filter(each)
            elif not isinstance(each, Mapping):
                raise UsageError(
                    f"{setting('filters')} {each!r} is neither a string nor a clause; write field=value, or an "
                    "Elasticsearch query as a mapping"
                )
        if self.collapse and self.fusion == "server" and self.mode in (None, "hybrid"):
            raise UsageError(
                f"{setting('collapse')} works with {setting('fusion')} convex or rrf, not with server"
            )


@dataclass(frozen=True, slots=True)
class QueryBuilder:
    """Builds requests for one index: `properties` are its mapping's fields, `text_fields` those that BM25 searches."""

    properties: Mapping[str, Any]
    text_fields: frozenset[str]
    options: SearchOptions

    @property
    def mode(self) -> Mode:
        """The mode of the options; without one hybrid, or kNN if the chunks' text is not indexed as text."""
        if self.options.mode:
            return self.options.mode
        return "hybrid" if self.properties.get("content", {}).get("type") == "text" else "knn"

    def knn(self, text: str, vector: FloatArray, *, size: int) -> dict[str, Any]:
        """Return a kNN search with the query vector (dim,)."""
        if not self._collapses:
            return {"knn": self.knn_clause(vector, k=size), **self._rest(size, text)}
        # With the top-level "knn", Elasticsearch returns inner hits without scores and in index order; with a knn
        # query it scores them.
        nearest: dict[str, Any] = {"knn": self.knn_clause(vector, k=self.options.candidates())}
        if self._has_pieces:
            nearest = {"nested": {"path": PIECES_FIELD, "query": nearest, "score_mode": "max"}}
        return {"query": nearest, **self._rest(size, text)}

    def knn_clause(self, vector: FloatArray, *, k: int) -> dict[str, Any]:
        """Return the kNN search alone. Filters apply before the search, so there are k hits if k chunks pass them.

        If the chunks have pieces, the best piece's score is that of the chunk: Elasticsearch returns k chunks then too.
        """
        options = self.options
        clause: dict[str, Any] = {
            "field": PIECES_PATH if self._has_pieces else VECTOR_FIELD,
            "query_vector": [float(f"{value:.9g}") for value in vector],
            "k": k,
            "num_candidates": options.candidates(),
        }
        if options.similarity is not None:
            clause["similarity"] = options.similarity
        if options.oversample is not None:
            clause["rescore_vector"] = {"oversample": options.oversample}
        if options.filters:
            clause["filter"] = self.filters()
        return clause

    def bm25(self, text: str, *, size: int) -> dict[str, Any]:
        """Return a full-text search."""
        return {"query": self.text_query(text), **self._rest(size, text)}

    def text_query(self, text: str) -> dict[str, Any]:
        """Return BM25F over a chunk, its neighbours, title and headings, as far as these are indexed for it."""
        has_context = self.text_fields.issuperset(CONTEXT_FIELDS)
        weights = CONTEXT_WEIGHTS if has_context else PLAIN_WEIGHTS
        fields = [f"{name}^{weight}" for name, weight in weights.items() if name in self.text_fields]
        words: dict[str, Any] = {"match": {"content": {"query": text}}}
        if len(fields) > 1:
            words = {"combined_fields": {"query": text, "fields": fields}}
        return {"bool": {"must": [words], "filter": self.filters()}} if self.options.filters else words

    def server_fusion(self, text: str, vector: FloatArray) -> dict[str, Any]:
        """Return both searches fused by Elasticsearch's `linear` retriever: a weighted sum of min-max scores.

        Raises UsageError if the chunks have pieces: no test could show that a retriever counts the best one.
        """
        if self._has_pieces:
            raise UsageError(
                f"{setting('fusion')} server does not work with the pieces of this index; use {setting('fusion')} "
                "convex or rrf"
            )
        size = self.options.candidates()
        knn = {"knn": self.knn_clause(vector, k=size)}
        standard = {"standard": {"query": self.text_query(text)}}
        weight = self.options.bm25_weight
        retrievers = [
            {"retriever": standard, "weight": weight, "normalizer": "minmax"},
            {"retriever": knn, "weight": round(1 - weight, 9), "normalizer": "minmax"},
        ]
        linear = {"linear": {"retrievers": retrievers, "rank_window_size": size}}
        return {"retriever": linear, **self._rest(self.options.k, text)}

    def filters(self) -> list[dict[str, Any]]:
        """Return the queries of the filters, which must all hold; raise UsageError if this index cannot answer one."""
        return [
            parse_filter(each, self.properties) if isinstance(each, str) else dict(each)
            for each in self.options.filters
        ]

    @property
    def _has_pieces(self) -> bool:
        return has_pieces(self.properties)

    @property
    def _collapses(self) -> bool:
        """True if Elasticsearch collapses; a hybrid search is fused, and then collapsed, on the client."""
        return self.options.collapse and self.mode != "hybrid"

    def _rest(self, size: int, text: str) -> dict[str, Any]:
        rest: dict[str, Any] = {"size": size, "_source": list(SOURCE_FIELDS)}
        if self._collapses:
            inner = {"name": INNER_HITS, "size": INNER_SIZE, "_source": list(SOURCE_FIELDS)}
            rest["collapse"] = {"field": "doc_id", "inner_hits": inner}
        if self.options.highlight:
            rest |= highlight_clause(text)
        return rest


def highlight_clause(text: str) -> dict[str, Any]:
    """Return the clause that highlights the words of `text` in the whole content."""
    return {
        "highlight": {
            "fields": {"content": {"number_of_fragments": 0, "no_match_size": WHOLE}},
            "highlight_query": {"match": {"content": text}},
        }
    }


def ids_and_scores(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same search without the fields of the hits."""
    return _with_fields(body, {"_source": False})


def places_and_scores(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same search with the document and the ordinal of each hit, which make up its `_id`, and nothing else.

    `_id` is a stored field, compressed together with `_source`: for each hit that is asked for it, the server unpacks
    both, however large they are. Doc values are columns of their own.
    """
    return _with_fields(body, {"stored_fields": "_none_", "docvalue_fields": ["doc_id", "ordinal"]})


def _with_fields(body: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    lean = {key: value for key, value in body.items() if key not in ("highlight", "_source")}
    if "collapse" in body:
        inner = {key: value for key, value in body["collapse"]["inner_hits"].items() if key != "_source"}
        lean["collapse"] = {**body["collapse"], "inner_hits": {**inner, **fields}}
    return {**lean, **fields}


def first_stage(options: SearchOptions, rank_window_size: int | None) -> SearchOptions:
    """Return the same search for as many hits as the reranker reads: by default 50, or k if that is more.

    There are never more than the number of candidates in the options. What cannot work is a UsageError.
    """
    options.check()
    maximum = options.num_candidates or MAX_NUM_CANDIDATES
    if rank_window_size is None:
        return replace(options, k=max(options.k, min(RANK_WINDOW_SIZE, maximum)))
    if not options.k <= rank_window_size <= maximum:
        raise UsageError(
            f"{setting('rank_window_size')} {rank_window_size} is not between {setting('k')} {options.k} and "
            f"{maximum}, the number of candidates"
        )
    return replace(options, k=rank_window_size)


def rerank_hits(query: str, hits: Sequence[Hit], *, reranker: Reranker, k: int) -> list[Hit]:
    """Return the best k hits by the reranker, each with its `rerank_score`; `score` is still that of the search.

    Hits with equal rerank scores keep the order of the search.
    """
    scores = reranker.score(query, [hit.content for hit in hits])
    scored = [replace(hit, rerank_score=float(score)) for hit, score in zip(hits, scores, strict=True)]
    order = sorted(range(len(hits)), key=lambda position: -scores[position])
    return [scored[position] for position in order[:k]]
