"""Fuses two ranked lists into one on the client; Elasticsearch's own fusion needs an Enterprise licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk in a ranked list: its index, its `_id`, and its score in that list.

    `inner` are other chunks of the same document, if the search collapses.
    """

    index: str
    id: str
    score: float
    inner: tuple[Candidate, ...] | None = None

    @property
    def key(self) -> Key:
        """The index and the `_id`, as several indices behind an alias may hold the same `_id`."""
        return self.index, self.id

    @property
    def doc_id(self) -> str:
        """The document's id, taken from the `_id` DOCUMENT#ORDINAL."""
        return self.id.rpartition("#")[0]


def convex_sum(bm25: Sequence[Candidate], knn: Sequence[Candidate], *, bm25_weight: float) -> list[Candidate]:
    """Rank the chunks of both lists by `bm25_weight` * minmax(BM25) + (1 - bm25_weight) * minmax(kNN), best first.

    The scores of a list are scaled to [0, 1]; a chunk that is not in a list has 0 for it. Source: Bruch et
    al. 2022, "An Analysis of Fusion Functions for Hybrid Retrieval" (arXiv 2210.11934).
    """
    return _ranked(bm25, knn, _weighted(_minmax(bm25), bm25_weight), _weighted(_minmax(knn), 1 - bm25_weight))


def reciprocal_rank(
    bm25: Sequence[Candidate], knn: Sequence[Candidate], *, bm25_weight: float, constant: int
) -> list[Candidate]:
    """Rank the chunks of both lists by weighted reciprocal rank: a list adds weight / (constant + rank).

    Source: Cormack et al. 2009, "Reciprocal rank fusion outperforms Condorcet".
    """
    first, second = _reciprocal(bm25, constant), _reciprocal(knn, constant)
    return _ranked(bm25, knn, _weighted(first, bm25_weight), _weighted(second, 1 - bm25_weight))


def _minmax(found: Sequence[Candidate]) -> dict[Key, float]:
    """Scale scores to [0, 1]; if all are equal, each is 1, as a chunk that was found beats one that was not."""
    if not found:
        return {}
    scores = [candidate.score for candidate in found]
    low, spread = min(scores), max(scores) - min(scores)
    return {one.key: (one.score - low) / spread if spread else 1.0 for one in found}


def _reciprocal(found: Sequence[Candidate], constant: int) -> dict[Key, float]:
    return {candidate.key: 1 / (constant + rank) for rank, candidate in enumerate(found, 1)}


def _weighted(scores: Mapping[Key, float], weight: float) -> dict[Key, float]:
    return {key: weight * score for key, score in scores.items()}


def _ranked(
    bm25: Sequence[Candidate],
    knn: Sequence[Candidate],
    first: Mapping[Key, float],
    second: Mapping[Key, float],
) -> list[Candidate]:
    """Return the union of the lists, ordered by the sum of both scores; ties are ordered by id."""
    union = {candidate.key: candidate for candidate in [*bm25, *knn]}
    fused = [replace(one, score=first.get(key, 0.0) + second.get(key, 0.0)) for key, one in union.items()]
    return sorted(fused, key=lambda one: (-one.score, one.id, one.index))


def collapse(found: Sequence[Candidate], *, inner: int) -> list[Candidate]:
    """Keep the best chunk of each document, with up to `inner` other chunks of it."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(candidate.doc_id, []).append(candidate)
    return [replace(group[0], inner=tuple(group[1 : 1 + inner])) for group in groups.values()]
