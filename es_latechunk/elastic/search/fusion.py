"""Fuses two ranked lists into one on the client; Elasticsearch's own fusion needs an Enterprise licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from es_latechunk.types import ListScore

Key = tuple[str, str]
BM25_FLOOR = 0.0  # of a chunk without any of the words
# The score of a cosine of 0, as of texts that have nothing to do with each other; docs/search.md has the measurement.
KNN_FLOOR = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk in a ranked list: its index, its `_id`, and its score in that list.

    `inner` are other chunks of the same document, if the search collapses. `scores` are the scores and ranks in the two
    lists that were fused, by "bm25" and "knn".
    """

    index: str
    id: str
    score: float
    inner: tuple[Candidate, ...] | None = None
    scores: Mapping[str, ListScore | None] | None = None

    @property
    def key(self) -> Key:
        """The index and the `_id`, as several indices behind an alias may hold the same `_id`."""
        return self.index, self.id

    @property
    def doc_id(self) -> str:
        """The document's id, taken from the `_id` DOCUMENT#ORDINAL."""
        return self.id.rpartition("#")[0]


def convex_sum(
    bm25: Sequence[Candidate], knn: Sequence[Candidate], *, bm25_weight: float, limit: int
) -> list[Candidate]:
    """Rank the chunks of both lists by `bm25_weight` * scaled BM25 + (1 - bm25_weight) * scaled kNN, best first.

    A list's highest score becomes 1, and its floor 0, as has a chunk that is not in the list. The floor of a list that
    holds all chunks there are is a constant, so that a chunk does not lose for being the last of three. A list that was
    cut at `limit` chunks has its lowest score as its floor: no chunk outside of it has more. Source: the theoretical
    min-max of Bruch et al. 2022, "An Analysis of Fusion Functions for Hybrid Retrieval" (arXiv 2210.11934).
    """
    first = _scaled(bm25, None if len(bm25) >= limit else BM25_FLOOR)
    second = _scaled(knn, None if len(knn) >= limit else KNN_FLOOR)
    return _ranked(bm25, knn, _weighted(first, bm25_weight), _weighted(second, 1 - bm25_weight))


def reciprocal_rank(
    bm25: Sequence[Candidate], knn: Sequence[Candidate], *, bm25_weight: float, constant: int
) -> list[Candidate]:
    """Rank the chunks of both lists by weighted reciprocal rank: a list adds weight / (constant + rank).

    Source: Cormack et al. 2009, "Reciprocal rank fusion outperforms Condorcet".
    """
    first, second = _reciprocal(bm25, constant), _reciprocal(knn, constant)
    return _ranked(bm25, knn, _weighted(first, bm25_weight), _weighted(second, 1 - bm25_weight))


def _scaled(found: Sequence[Candidate], floor: float | None) -> dict[Key, float]:
    """Scale scores so that the highest is 1, and the floor 0: `floor`, or the lowest score if that is lower or None.

    If all are equal to the floor, each is 1, as a chunk that was found beats one that was not.
    """
    if not found:
        return {}
    scores = [candidate.score for candidate in found]
    low = min(scores) if floor is None else min(floor, *scores)
    spread = max(scores) - low
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
    by_list = {"bm25": _list_scores(bm25), "knn": _list_scores(knn)}
    fused = [
        Candidate(
            one.index,
            one.id,
            first.get(key, 0.0) + second.get(key, 0.0),
            one.inner,
            {name: scores.get(key) for name, scores in by_list.items()},
        )
        for key, one in union.items()
    ]
    return sorted(fused, key=lambda one: (-one.score, one.id, one.index))


def _list_scores(found: Sequence[Candidate]) -> dict[Key, ListScore]:
    return {candidate.key: ListScore(candidate.score, rank) for rank, candidate in enumerate(found, 1)}


def collapse(found: Sequence[Candidate], *, inner: int) -> list[Candidate]:
    """Keep the best chunk of each document, with up to `inner` other chunks of it."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(candidate.doc_id, []).append(candidate)
    return [replace(group[0], inner=tuple(group[1 : 1 + inner])) for group in groups.values()]
