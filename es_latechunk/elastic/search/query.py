"""What a search may ask for, and the request bodies that ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from es_latechunk.elastic.index.template import VECTOR_FIELD
from es_latechunk.elastic.search.filters import parse_filter, split_filter
from es_latechunk.errors import UsageError, setting
from es_latechunk.types import FloatArray, Hit, Reranker

Mode = Literal["knn", "bm25", "hybrid"]
Fusion = Literal["convex", "rrf", "server"]
Filter = str | Mapping[str, Any]
MODES: tuple[Mode, ...] = ("knn", "bm25", "hybrid")
FUSIONS: tuple[Fusion, ...] = ("convex", "rrf", "server")
MAX_NUM_CANDIDATES = 10_000
MIN_NUM_CANDIDATES = 500  # by default; docs/search.md has what it gains over 100
SOURCE_FIELDS = ("doc_id", "ordinal", "start", "end", "content", "title", "metadata")
# A chunk's term frequency is tf + .2 tf(chunks +-1) + .1 tf(chunks +-2), times ten, as is k1 in the mapping.
CONTEXT_WEIGHTS = ("content^10", "neighbours_1^2", "neighbours_2^1")
DEFAULT_BM25_WEIGHT = 0.6
RRF_CONSTANT = 60
INNER_HITS = "chunks"
INNER_SIZE = 5  # with the hit itself
WHOLE = 2_147_483_647  # characters: a chunk without the words is given as it is


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a search may be told; None means: as is best for the index.

    `k` hits. Each mode looks at `num_candidates` chunks (on each shard; default 10 k, at least 500), and in
    hybrid mode each of the two lists holds so many. `similarity` is the least cosine of a kNN hit. `oversample`
    looks at so many times k quantised candidates and scores them with the full vectors. `bm25_weight` is BM25's
    share in a fusion, the vectors have the rest. `filters` are "field=value" and the like, or clauses of
    Elasticsearch's own; all must hold.
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
        """The effective number of candidates, between k and Elasticsearch's limit; errors are UsageErrors."""
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
        """Raise a UsageError for what cannot work, before a model is loaded for it."""
        self.candidates()
        for name, value, known in (("mode", self.mode, (None, *MODES)), ("fusion", self.fusion, FUSIONS)):
            if value not in known:
                names = ", ".join(choice for choice in known if choice)
                raise UsageError(f"{setting(name)}: {value!r} is not known; choose one of {names}")
        if not 0 <= self.bm25_weight <= 1:
            raise UsageError(f"{setting('bm25_weight')} {self.bm25_weight} is not between 0 and 1")
        if self.similarity is not None and not -1 <= self.similarity <= 1:
            raise UsageError(f"{setting('similarity')} {self.similarity} is no cosine: choose -1 to 1")
        if self.oversample is not None and not 1 <= self.oversample < 10:
            raise UsageError(f"{setting('oversample')} {self.oversample} is not between 1 and 10")
        for each in self.filters:
            if isinstance(each, str):
                split_filter(each)
            elif not isinstance(each, Mapping):
                raise UsageError(
                    f"{setting('filters')} {each!r} is neither a text nor a clause; write field=value, or an "
                    "Elasticsearch query as a mapping"
                )
        if self.collapse and self.fusion == "server" and self.mode in (None, "hybrid"):
            raise UsageError(
                f"{setting('collapse')} works with {setting('fusion')} convex or rrf, not with the server's"
            )


@dataclass(frozen=True, slots=True)
class QueryBuilder:
    """Builds requests for one index: `properties` are its mapping's fields."""

    properties: Mapping[str, Any]
    has_context: bool
    options: SearchOptions

    @property
    def mode(self) -> Mode:
        """The mode asked for; else hybrid, or kNN where the chunks' text is not indexed as text."""
        if self.options.mode:
            return self.options.mode
        return "hybrid" if self.properties.get("content", {}).get("type") == "text" else "knn"

    def knn(self, text: str, vector: FloatArray, *, size: int) -> dict[str, Any]:
        """A kNN search with the query vector (dim,)."""
        if not self._collapses:
            return {"knn": self.knn_clause(vector, k=size), **self._rest(size, text)}
        # Inner hits of a search's own "knn" come unscored, in the order of the index; those of a query do not.
        nearest = self.knn_clause(vector, k=self.options.candidates())
        return {"query": {"knn": nearest}, **self._rest(size, text)}

    def knn_clause(self, vector: FloatArray, *, k: int) -> dict[str, Any]:
        """The kNN search alone. Filters hold before the search, so that there are k hits if k pass them."""
        options = self.options
        clause: dict[str, Any] = {
            "field": VECTOR_FIELD,
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
        """A full-text search."""
        return {"query": self.text_query(text), **self._rest(size, text)}

    def text_query(self, text: str) -> dict[str, Any]:
        """BM25F over a chunk and its neighbours where they are indexed, else BM25 over the chunk."""
        words: dict[str, Any] = {"match": {"content": {"query": text}}}
        if self.has_context:
            words = {"combined_fields": {"query": text, "fields": list(CONTEXT_WEIGHTS)}}
        return {"bool": {"must": [words], "filter": self.filters()}} if self.options.filters else words

    def server_fusion(self, text: str, vector: FloatArray) -> dict[str, Any]:
        """Both searches fused by Elasticsearch's `linear` retriever: min-max scores, a weighted sum."""
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
        """The queries of the filters, all of which must hold; a UsageError for one that this index cannot answer."""
        return [
            parse_filter(each, self.properties) if isinstance(each, str) else dict(each)
            for each in self.options.filters
        ]

    @property
    def _collapses(self) -> bool:
        """A fusion is collapsed where it is made, on the client."""
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
    """The content as a whole, with the words of `text` marked."""
    return {
        "highlight": {
            "fields": {"content": {"number_of_fragments": 0, "no_match_size": WHOLE}},
            "highlight_query": {"match": {"content": text}},
        }
    }


def ids_and_scores(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same search without the fields of what it finds."""
    lean = {**{key: value for key, value in body.items() if key != "highlight"}, "_source": False}
    if "collapse" in body:
        inner = {**body["collapse"]["inner_hits"], "_source": False}
        lean["collapse"] = {**body["collapse"], "inner_hits": inner}
    return lean


RANK_WINDOW_SIZE = 50


def first_stage(options: SearchOptions, rank_window_size: int | None) -> SearchOptions:
    """The same search for as many hits as the reranker shall read: by default 50, or k if that is more.

    Never more than the candidates that the options name. What cannot work is a UsageError.
    """
    options.check()
    most = options.num_candidates or MAX_NUM_CANDIDATES
    if rank_window_size is None:
        return replace(options, k=max(options.k, min(RANK_WINDOW_SIZE, most)))
    if not options.k <= rank_window_size <= most:
        raise UsageError(
            f"{setting('rank_window_size')} {rank_window_size} is not between {setting('k')} {options.k} and {most}, "
            "the number of candidates"
        )
    return replace(options, k=rank_window_size)


def rerank_hits(query: str, hits: Sequence[Hit], *, reranker: Reranker, k: int) -> list[Hit]:
    """The best k of the hits by the reranker, each with its `rerank_score`; `score` stays the search's.

    Hits that the reranker finds equal stay in the search's order.
    """
    scores = reranker.score(query, [hit.content for hit in hits])
    scored = [replace(hit, rerank_score=float(score)) for hit, score in zip(hits, scores, strict=True)]
    order = sorted(range(len(hits)), key=lambda position: -scores[position])
    return [scored[position] for position in order[:k]]
