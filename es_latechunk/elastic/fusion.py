"""Fusing two ranked lists of hits into one, on the client: no licence, and every step in the open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from es_latechunk.types import Hit


def convex_sum(bm25: Sequence[Hit], knn: Sequence[Hit], *, weight: float) -> list[Hit]:
    """Hits of either list by `weight` * minmax(BM25) + (1 - weight) * minmax(kNN), best first.

    A list's scores are stretched to [0, 1]; a chunk that a list does not hold has 0 there. Source: Bruch et
    al. 2022, "An Analysis of Fusion Functions for Hybrid Retrieval" (arXiv 2210.11934).
    """
    return _ranked(bm25, knn, _weighted(_minmax(bm25), weight), _weighted(_minmax(knn), 1 - weight))


def reciprocal_rank(bm25: Sequence[Hit], knn: Sequence[Hit], *, weight: float, constant: int) -> list[Hit]:
    """Hits of either list by weighted reciprocal rank: each list gives its weight / (constant + rank).

    Source: Cormack et al. 2009, "Reciprocal rank fusion outperforms Condorcet".
    """
    first, second = _reciprocal(bm25, constant), _reciprocal(knn, constant)
    return _ranked(bm25, knn, _weighted(first, weight), _weighted(second, 1 - weight))


def _minmax(hits: Sequence[Hit]) -> dict[str, float]:
    """Scores stretched to [0, 1]; where all are equal, each is 1: to be found is worth more than not to be."""
    if not hits:
        return {}
    scores = [hit.score for hit in hits]
    low, spread = min(scores), max(scores) - min(scores)
    return {hit.id: (hit.score - low) / spread if spread else 1.0 for hit in hits}


def _reciprocal(hits: Sequence[Hit], constant: int) -> dict[str, float]:
    return {hit.id: 1 / (constant + rank) for rank, hit in enumerate(hits, 1)}


def _weighted(scores: Mapping[str, float], weight: float) -> dict[str, float]:
    return {name: weight * score for name, score in scores.items()}


def _ranked(
    bm25: Sequence[Hit], knn: Sequence[Hit], first: Mapping[str, float], second: Mapping[str, float]
) -> list[Hit]:
    """The union of the lists, by the sum of both scores; ties keep a fixed order, by id."""
    union = {hit.id: hit for hit in [*knn, *bm25]}  # a BM25 hit has the highlighting
    fused = [replace(hit, score=first.get(name, 0.0) + second.get(name, 0.0)) for name, hit in union.items()]
    return sorted(fused, key=lambda hit: (-hit.score, hit.id))


def collapse(hits: Sequence[Hit], k: int, *, inner: int) -> list[Hit]:
    """The best hit of each document, at most k, each with up to `inner` others of it as `inner_hits`."""
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.doc_id, []).append(hit)
    return [replace(group[0], inner_hits=tuple(group[1 : 1 + inner])) for group in list(groups.values())[:k]]
