"""The first hits of a search, put in the order in which a reranker sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from es_latechunk.elastic.query import MOST_CANDIDATES, SearchOptions
from es_latechunk.errors import UsageError, setting
from es_latechunk.types import Hit, Reranker

RANK_WINDOW_SIZE = 50


def first_stage(options: SearchOptions, rank_window_size: int | None) -> SearchOptions:
    """The same search for as many hits as the reranker shall read: by default 50, or k if that is more.

    Never more than the candidates that the options name. What cannot work is a UsageError.
    """
    options.check()
    most = options.num_candidates or MOST_CANDIDATES
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
    order = sorted(range(len(hits)), key=lambda place: -scores[place])
    return [scored[place] for place in order[:k]]
