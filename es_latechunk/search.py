"""The search, from top to bottom: queries are encoded, searched, fused, reranked, and shown with neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT, Filter, Fusion, Mode, SearchOptions
from es_latechunk.errors import UsageError, setting
from es_latechunk.keywords import keywords_of
from es_latechunk.models import EncoderLoader, choose_encoder
from es_latechunk.types import Encoder, FloatArray, Hit, Reranker

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch
    from typing_extensions import Unpack

    from es_latechunk.elastic.search.searcher import Searcher

QUERIES_AT_ONCE = 64
CANDIDATES_AT_ONCE = 20_000  # ids and scores in one answer, which is held in memory
MAX_NEIGHBOURS = 50


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of a query, best first, and the milliseconds of the requests that it shared with other queries."""

    query: str
    hits: Sequence[Hit]
    milliseconds: float


class SearchKeywords(TypedDict, total=False):
    """The keywords of `search_many`, which explains them."""

    k: int
    mode: Mode | None
    num_candidates: int | None
    similarity: float | None
    oversample: float | None
    fusion: Fusion
    bm25_weight: float
    filters: Filter | Iterable[Filter]
    highlight: bool
    collapse: bool
    neighbours: int
    reranker: Reranker | None
    rank_window_size: int | None


def search_many(
    queries: Iterable[str],
    *,
    index: str,
    client: Elasticsearch | None = None,
    encoder: Encoder | EncoderLoader | None = None,
    k: int = 10,
    mode: Mode | None = None,
    num_candidates: int | None = None,
    similarity: float | None = None,
    oversample: float | None = None,
    fusion: Fusion = "convex",
    bm25_weight: float = DEFAULT_BM25_WEIGHT,
    filters: Filter | Iterable[Filter] = (),
    highlight: bool = False,
    collapse: bool = False,
    neighbours: int = 0,
    reranker: Reranker | None = None,
    rank_window_size: int | None = None,
) -> Iterator[SearchResult]:
    """Yield the best chunks for each query, in the order of the queries; one request searches for dozens of them.

    - `index`: an index or an alias.
    - `client`: without one, the cluster is that of ELASTICSEARCH_URL, or the local node.
    - `encoder`: the index's own encoder, or a function that loads it from what the index records. Without one, the
      model that the index records is loaded.
    - `k`: the number of hits per query.
    - `mode`: "knn" (the score is (1 + cosine) / 2), "bm25", or "hybrid", the default if the chunks' text is indexed.
    - `num_candidates`: the number of chunks that each mode looks at (default: 10 k, at least 500).
    - `similarity`: the minimum cosine of kNN hits.
    - `oversample`: rescore this many times k quantised candidates with the full vectors.
    - `fusion`: how a hybrid search combines its two lists: "convex" (a weighted sum), "rrf", or "server".
    - `bm25_weight`: the share of BM25 in that sum, from 0 to 1.
    - `filters`: a string such as "field=value", an Elasticsearch clause as a mapping, or several of these, which must
      all hold.
    - `highlight`: give each hit its content with the query's words marked.
    - `collapse`: give only the best chunk of each document.
    - `neighbours`: give each hit a passage with this many chunks on each side.
    - `reranker`: put the first hits in the order of this model (see `load_reranker`).
    - `rank_window_size`: the number of hits that the reranker reads (default: 50, at least k).

    Raises UsageError for options that cannot work, IndexNotFoundError, IndexMismatchError if the index holds vectors
    of another model, and ServerError.
    """
    from es_latechunk.elastic.connection import connect
    from es_latechunk.elastic.search.query import rerank_hits
    from es_latechunk.elastic.search.searcher import add_passages

    options = SearchOptions(
        k=k,
        mode=mode,
        num_candidates=num_candidates,
        similarity=similarity,
        oversample=oversample,
        fusion=fusion,
        bm25_weight=bm25_weight,
        filters=several(filters),
        highlight=highlight,
        collapse=collapse,
    )
    if not 0 <= neighbours <= MAX_NEIGHBOURS:
        raise UsageError(f"{setting('neighbours')} {neighbours} is not between 0 and {MAX_NEIGHBOURS}")
    searcher = open_searcher(
        client or connect(),
        index,
        options,
        reranked=reranker is not None,
        rank_window_size=rank_window_size,
    )
    # A model takes seconds to load, so it is loaded only after everything that cannot work has been refused.
    vectorise = None if searcher.mode == "bm25" else choose_encoder(encoder, searcher.identity.encoder)

    def results() -> Iterator[SearchResult]:
        waiting = iter(queries)
        while batch := list(
            islice(waiting, min(QUERIES_AT_ONCE, 1 + CANDIDATES_AT_ONCE // searcher.candidates))
        ):
            vectors: Sequence[FloatArray | None] = [None] * len(batch)
            if vectorise is not None:
                vectors = searcher.encode(batch, vectorise)
            for found in searcher.run(batch, vectors):
                hits = found.hits
                if reranker:
                    hits = rerank_hits(found.query, hits, reranker=reranker, k=k)
                if neighbours:
                    hits = add_passages(searcher, hits, neighbours)
                yield SearchResult(found.query, hits, found.milliseconds)

    return results()


@keywords_of(search_many)
def search(
    query: str,
    *,
    index: str,
    client: Elasticsearch | None = None,
    encoder: Encoder | EncoderLoader | None = None,
    **keywords: Unpack[SearchKeywords],
) -> list[Hit]:
    """Return the best chunks for a query, best first."""
    [result] = search_many([query], index=index, client=client, encoder=encoder, **keywords)
    return list(result.hits)


def open_searcher(
    client: Elasticsearch,
    index: str,
    options: SearchOptions,
    *,
    reranked: bool,
    rank_window_size: int | None,
) -> Searcher:
    """Open an index for searching; if the hits are to be reranked, for as many of them as the reranker reads."""
    from es_latechunk.elastic.search.query import first_stage
    from es_latechunk.elastic.search.searcher import Searcher

    if rank_window_size is not None and not reranked:
        raise UsageError(
            f"{setting('rank_window_size')} is of no use without {setting('reranker')}; name a reranker"
        )
    return Searcher(client, index, first_stage(options, rank_window_size) if reranked else options)


def several(filters: Filter | Iterable[Filter]) -> tuple[Filter, ...]:
    """Return one filter or several as a tuple."""
    if isinstance(filters, (str, Mapping)) or not isinstance(filters, Iterable):
        return (filters,)  # SearchOptions.check refuses what is not a filter
    return tuple(filters)
